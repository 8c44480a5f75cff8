export type { FeedClient } from "./feeds.ts";
export { createNotificationsService, type NotificationsService } from "./service.ts";
export type { FeedItem } from "./tenant-stream.ts";
