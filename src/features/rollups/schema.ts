import { z } from "@hono/zod-openapi";
import { isStorable } from "../../core/validation.ts";
import { Instant } from "../../http/responses.ts";

export const LinkSession = z
  .strictObject({
    sessionId: z.string().min(1).max(200).refine(isStorable, "holds a character that can't be stored"),
  })
  .openapi("LinkSession", { example: { sessionId: "session-4711" } });

export const VoidedEvent = z
  .object({
    id: z.uuid(),
    voidedAt: Instant,
    alreadyVoided: z.boolean().openapi({ description: "True where an earlier call has done it" }),
  })
  .openapi("VoidedEvent");

export const SessionLinked = z.object({ linked: z.number().int() }).openapi("SessionLinked");
