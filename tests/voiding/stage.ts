import { expect } from "bun:test";
import { ROLLUPS } from "../../src/features/rollups/definitions.ts";
import { verifyTenant } from "../../src/features/rollups/index.ts";
import { type Answer, createTenant, type TestApi, type TestTenant } from "../factories.ts";
import { eventually } from "../harness.ts";
import { randomFrom } from "../worker/brute-force.ts";

/**
 * What the tests of this folder share: events of a shop, voiding some, and everything that is
 * counted from them.
 */
export const ZONE = "Europe/Berlin";

/** Around the end of a month, including the night of the changed clocks. */
const START_MS = Date.parse("2026-10-24T12:00:00Z");
const LENGTH_MS = 9 * 86_400_000;
const TYPES = ["view", "view", "click", "add_to_cart", "purchase", "refund", "adjustment", "wishlist.add"];

export const createShop = (api: Pick<TestApi, "deps" | "sql">) => createTenant(api, { time_zone: ZONE });

/**
 * The same for the same seed. Users, sessions and products are few, and many have a single event on
 * a day.
 */
export function randomEvents(seed: number, count: number): Record<string, unknown>[] {
  const random = randomFrom(seed);
  const pick = (n: number) => Math.floor(random() * n);
  return Array.from({ length: count }, (_, n) => {
    const type = TYPES[pick(TYPES.length)] ?? "";
    const isSale = ["purchase", "refund", "adjustment"].includes(type);
    return {
      type,
      messageId: `${seed}-${n}`,
      timestamp: START_MS + pick(LENGTH_MS),
      productId: pick(5) === 0 ? undefined : `p-${pick(12)}`,
      userId: pick(2) === 0 ? `u-${pick(15)}` : undefined,
      anonymousId: `a-${pick(15)}`,
      sessionId: pick(4) === 0 ? undefined : `s-${pick(30)}`,
      properties: {
        country: ["DE", "FR", 7, true][pick(4)],
        ...(isSale
          ? { price: pick(99_999) / 100, ...(type === "adjustment" ? {} : { quantity: 1 + pick(3) }) }
          : {}),
      },
    };
  });
}

export async function send(
  { call }: Pick<TestApi, "call">,
  { key }: TestTenant,
  events: object[],
): Promise<void> {
  const { status, body } = await call("POST", "/events/bulk", { as: key, json: { events } });
  expect([status, body.inserted]).toEqual([202, events.length]);
}

export const voidEvent = ({ call }: Pick<TestApi, "call">, as: string, id: string): Promise<Answer> =>
  call("POST", `/events/${id}/void`, { as });

export async function idsByMessage({ sql }: Pick<TestApi, "sql">, { tenantId }: TestTenant) {
  const rows = await sql<{ messageId: string; id: string }[]>`
    select message_id as "messageId", id from events where tenant_id = ${tenantId} and message_id is not null`;
  return new Map(rows.map(({ messageId, id }) => [messageId, id]));
}

/** Rollups equal the events that count, at this very moment. */
export async function expectNoDifference(
  { deps }: Pick<TestApi, "deps">,
  { tenantId }: TestTenant,
): Promise<void> {
  const report = await verifyTenant(deps.db.transactions, { tenantId, timeZone: ZONE }, {});
  expect(report).toMatchObject({ differences: [], differing: 0, dead: 0 });
}

/** Every row that is counted for a tenant, of all members, folded or not. */
export async function countedRows({ sql }: Pick<TestApi, "sql">, { tenantId }: TestTenant) {
  const counted: Record<string, string[]> = {};
  for (const table of [...ROLLUPS.map((rollup) => rollup.table), "daily_return_stats"]) {
    // Pairs that went down to nothing stay in their table and count as absent.
    const rows = await sql<{ row: object }[]>`
      select to_jsonb(kept) - 'tenant_id' - 'folded' as row from ${sql(table)} kept
      where tenant_id = ${tenantId} and coalesce((to_jsonb(kept) ->> 'members')::int, 1) <> 0`;
    counted[table] = rows.map(({ row }) => JSON.stringify(row)).sort();
  }
  return counted;
}

/** Resolves when so many statements in this database wait for a lock. */
export async function untilWaiting({ sql }: Pick<TestApi, "sql">, count: number): Promise<void> {
  await eventually(
    async () => {
      const waiting = await sql`select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'`;
      return waiting.length >= count;
    },
    { intervalMs: 5, timeoutMs: 20_000 },
  );
}

/**
 * Holds a tenant's rows of a rollup until released, so that whoever changes one stops in the middle
 * of its transaction.
 */
export async function holdRows(
  { sql }: Pick<TestApi, "sql">,
  { tenantId }: TestTenant,
): Promise<() => Promise<void>> {
  const holder = await sql.reserve();
  await holder`begin`;
  await holder`select from event_daily_stats where tenant_id = ${tenantId} for update`;
  return async () => {
    await holder`rollback`;
    holder.release();
  };
}
