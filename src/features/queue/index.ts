export { createQueueService, type QueueService } from "./service.ts";
