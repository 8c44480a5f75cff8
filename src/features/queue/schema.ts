import { z } from "@hono/zod-openapi";
import { Instant } from "../../http/responses.ts";

const deadLetterFields = {
  id: z.uuid(),
  attempts: z.number().int(),
  error: z.string(),
  receivedAt: Instant,
  deadLetteredAt: Instant,
};

/** One schema a kind: what they hold differs. */
export const DeadLetter = z
  .union([
    z.object({ ...deadLetterFields, kind: z.literal("event_batch"), events: z.number().int() }),
    z.object({
      ...deadLetterFields,
      kind: z.literal("order_command"),
      orderId: z.uuid(),
      groupId: z.string(),
      command: z.enum(["create", "status", "cancel"]),
    }),
  ])
  .openapi("DeadLetter");

export const QueueStats = z
  .object({
    depth: z
      .number()
      .int()
      .openapi({ description: "Commands that wait, those in flight and retrying included" }),
    groups: z.number().int().openapi({ description: "Groups with such commands" }),
    oldestAgeMs: z.number(),
    inFlight: z.number().int().openapi({ description: "Under way at the workers' last heartbeat" }),
    retrying: z.number().int().openapi({ description: "Failed at least once, tried again later" }),
    dead: z.number().int(),
    handledLastMinute: z.number().int(),
  })
  .openapi("QueueStats");

export const WorkerStatus = z
  .object({
    status: z.enum(["running", "stalled", "stopped"]),
    alive: z.number().int(),
    workers: z.array(
      z.object({
        name: z.string(),
        startedAt: Instant,
        seenAt: Instant,
        alive: z.boolean(),
        inFlight: z.number().int(),
      }),
    ),
  })
  .openapi("WorkerStatus");

export const WorkerStats = z
  .object({
    windowSeconds: z.number().int(),
    handled: z.number().int(),
    perSecond: z.number(),
    p50Ms: z.number().nullable().openapi({ description: "From the 202 to the effect" }),
    p99Ms: z.number().nullable(),
    workers: z.array(
      z.object({
        name: z.string(),
        alive: z.boolean(),
        handled: z.number().int(),
        applied: z.number().int(),
        refused: z.number().int(),
      }),
    ),
  })
  .openapi("WorkerStats");
