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

export const MAX_PROPERTIES = 30;

export const PropertiesChoice = z
  .strictObject({
    properties: z
      .array(z.string().min(1).max(100).refine(isStorable, "holds a character that can't be stored"))
      .max(MAX_PROPERTIES)
      .refine((names) => new Set(names).size === names.length, "must name each property once")
      .openapi({
        description:
          "Names as they stand in `properties` or `context` of events; upper and lower case differ",
        example: ["country", "device", "plan"],
      }),
  })
  .openapi("PropertiesChoice", { example: { properties: ["country", "device", "plan"] } });

export const Properties = z
  .object({
    items: z.array(
      z.object({
        name: z.string().openapi({ example: "plan" }),
        state: z
          .enum(["ready", "filling"])
          .openapi({ description: "filling: events of before it was chosen are still being counted" }),
        progress: z
          .number()
          .min(0)
          .max(1)
          .openapi({ description: "Share of those events that are counted; 1 when ready", example: 0.4 }),
      }),
    ),
    removing: z
      .array(z.string())
      .openapi({ description: "Given up; their counts are being deleted. Breakdowns know them no more" }),
  })
  .openapi("Properties");
