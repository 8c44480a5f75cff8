import { z } from "@hono/zod-openapi";
import { json } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import { createSseEncoder, type SseStreams } from "../../http/sse.ts";
import type { FeedItem, NotificationsService } from "./index.ts";
import { NotificationListQuery, NotificationPage, StreamHeaders, StreamQuery } from "./schema.ts";

const tags = ["Notifications"];

export function createNotificationRoutes(notifications: NotificationsService, streams: SseStreams) {
  const router = createRouter();

  const streamNotifications = defineRoute({
    operationId: "streamNotifications",
    method: "get",
    path: "/events/stream",
    tags,
    summary: "Follow the notifications as server-sent events",
    description:
      "`event` is the topic, `data` the notification, `id` its place in the tenant's order. Sent as Last-Event-ID, an id brings everything after it, as long as notifications are kept. Credentials go in headers, so use a client that can set them (EventSource can't). Streams end after half an hour, when the credential is no longer valid, and for who does not read; come again with the last id.",
    request: { query: StreamQuery, headers: StreamHeaders },
    responses: {
      200: {
        description: "Until either side ends it",
        content: { "text/event-stream": { schema: z.string() } },
      },
    },
  });
  router.openapi(streamNotifications, (c) => {
    const { topics, lastEventId } = c.req.valid("query");
    const last = c.req.valid("header")["last-event-id"] ?? lastEventId;
    const after = last === undefined ? null : Number(last);
    return streams.open(c, (stream) =>
      notifications.follow(
        requestContext(c),
        { topics, after },
        {
          signal: stream.signal,
          drained: () => stream.drained(),
          deliver: (items) => stream.send(framesOf(items)),
          fail: (error) => stream.fail(error),
        },
      ),
    );
  });

  const listNotifications = defineRoute({
    operationId: "listNotifications",
    method: "get",
    path: "/notifications",
    tags,
    summary: "List notifications, newest first",
    description: "Those of orders are for admins and for keys that have `orders:read` as well.",
    request: { query: NotificationListQuery },
    responses: { 200: json(NotificationPage, "A page") },
  });
  router.openapi(listNotifications, async (c) =>
    c.json(await notifications.listNotifications(requestContext(c), c.req.valid("query")), 200),
  );

  const readNotification = defineRoute({
    operationId: "readNotification",
    method: "post",
    path: "/notifications/{id}/read",
    tags,
    summary: "Mark a notification as read, for everyone who sees it",
    request: { params: z.object({ id: z.string() }) },
    responses: { 204: { description: "Read, now or before" } },
    problems: [404],
  });
  router.openapi(readNotification, async (c) => {
    await notifications.markRead(requestContext(c), c.req.valid("param").id);
    return c.body(null, 204);
  });

  return router;
}

const framesOf = createSseEncoder((items: readonly FeedItem[]) =>
  items.map(({ position, topic, json: data }) => ({ id: position, event: topic, data })),
);
