import type { Sql } from "postgres";
import type { TestApi, TestTenant } from "../factories.ts";
import { type RawEvent, randomFrom } from "./brute-force.ts";

/**
 * Days to put events into, some beyond both ends; a third of them into the night that begins at
 * `nightMs`.
 */
export interface Season {
  from: string;
  to: string;
  nightMs: number;
}

/**
 * Over a change of clocks in Europe (25 October 2026), in which an hour comes twice, and over a
 * month's end.
 */
export const AUTUMN: Season = {
  from: "2026-10-20",
  to: "2026-11-04",
  nightMs: Date.parse("2026-10-24T22:00:00Z"),
};
/**
 * Over the changes in Europe (29 March 2026: an hour is missing) and on Lord Howe (5 April: half an
 * hour comes twice).
 */
export const SPRING: Season = {
  from: "2026-03-24",
  to: "2026-04-08",
  nightMs: Date.parse("2026-03-28T22:00:00Z"),
};
export const { from: FROM, to: TO } = AUTUMN;
const NIGHT_LENGTH_MS = 6 * 3_600_000;

const TYPES = [
  "view",
  "view",
  "view",
  "click",
  "add_to_cart",
  "remove_from_cart",
  "checkout_start",
  "purchase",
  "refund",
  "adjustment",
  "search",
  "wishlist.add",
];
const SALES = ["purchase", "refund", "adjustment"];
const COUNTRIES = [
  "DE",
  "IN",
  "FR",
  "Österreich",
  "",
  "{braces}",
  "[list]",
  49,
  true,
  null,
  { code: "DE" },
  ["DE"],
];

/**
 * Sends random events: out of order, some twice, some invalid, in requests of different sizes, late
 * ones in between.
 */
export async function ingestShop(
  api: TestApi,
  { key }: TestTenant,
  seed: number,
  requests = 12,
  { from, to, nightMs }: Season = AUTUMN,
): Promise<void> {
  const startMs = Date.parse(`${from}T00:00:00Z`) - 16 * 3_600_000;
  const endMs = Date.parse(`${to}T00:00:00Z`) + 40 * 3_600_000;
  const random = randomFrom(seed);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const maybe = <T>(value: T, chance = 0.5): T | undefined => (random() < chance ? value : undefined);
  const sent: Record<string, unknown>[] = [];
  for (let request = 0; request < requests; request += 1) {
    const events = Array.from({ length: 1 + Math.floor(random() * 80) }, (): Record<string, unknown> => {
      if (sent.length > 0 && random() < 0.1) return pick(sent);
      if (random() < 0.05) return { type: "NOT VALID" };
      const type = pick(TYPES);
      const at =
        random() < 0.35 ? nightMs + random() * NIGHT_LENGTH_MS : startMs + random() * (endMs - startMs);
      const country = maybe(pick(COUNTRIES), 0.7);
      const event = {
        type,
        messageId: `${seed}-${sent.length}-${request}-${random()}`,
        timestamp: Math.floor(at),
        productId: maybe(`p-${Math.floor(random() * 12)}`, 0.8),
        userId: maybe(`u-${Math.floor(random() * 9)}`),
        anonymousId: maybe(`u-${Math.floor(random() * 20)}`),
        sessionId: `s-${Math.floor(random() * 30)}`,
        properties: {
          ...(country === undefined ? {} : { country }),
          ...(SALES.includes(type)
            ? {
                quantity: 1 + Math.floor(random() * 4),
                [random() < 0.3 ? "revenue" : "price"]:
                  Math.round(random() * 1e6 - (type === "adjustment" ? 5e5 : 0)) / 1e4,
              }
            : {}),
        },
        context: maybe({ country: "context", device: pick(["mobile", "desktop"]) }),
      };
      sent.push(event);
      return event;
    });
    // A request with only invalid events is refused, which is fine here.
    await api.call("POST", "/events/bulk", { as: key, json: { events } });
  }
}

export async function readRaw(sql: Sql, tenantId: string): Promise<RawEvent[]> {
  const rows = await sql<RawEvent[]>`
    select id, extract(epoch from ts) * 1000 as "tsMs", type, product_id as "productId", session_id as "sessionId", user_id,
      anonymous_id, quantity, unit_price::text as "unitPrice", amount::text, properties, context
    from events where tenant_id = ${tenantId}`;
  return rows.map((row) => {
    const { user_id, anonymous_id, ...event } = row as RawEvent & {
      user_id: string | null;
      anonymous_id: string | null;
    };
    return { ...event, tsMs: Number(row.tsMs), userKey: user_id ?? anonymous_id ?? row.sessionId ?? "" };
  });
}
