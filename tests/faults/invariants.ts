import { expect } from "bun:test";
import { verifyTenant } from "../../src/features/rollups/index.ts";
import { EVENT_BATCHES } from "../../src/streams/topology.ts";
import { eventually } from "../harness.ts";
import { countPending, countUndone, type Stage } from "./stage.ts";
import type { Attempt, Promised, Traffic } from "./traffic.ts";

/** G3: what a fault left undone must be done after this long. */
export const RECOVERY_MS = 30_000;

/**
 * Everything that must hold after a fault, once quiet. Waits until `deadlineMs` for the backlog to
 * drain, and for nothing else.
 */
export async function expectNothingLost(
  stage: Stage,
  traffic: Traffic,
  seed: string,
  deadlineMs = Date.now() + RECOVERY_MS,
): Promise<void> {
  await expectQuiet(stage, seed, deadlineMs);
  for (const promised of traffic.promised) await expectStoredOnce(stage, promised, seed);
  await expectConsistent(stage, seed);
  await expectVerified(stage, seed);
}

/** No ledger row is undone, nothing is pending in the group, and the stream is empty. */
export async function expectQuiet(stage: Stage, seed: string, deadlineMs: number): Promise<void> {
  const { key } = EVENT_BATCHES;
  await eventually(
    async () => {
      const found = {
        undone: await countUndone(stage),
        pending: await countPending(stage),
        length: await stage.deps.redis.xlen(key),
      };
      expect(found, `${seed}: no batch undone, no entry pending, none in the stream`).toEqual({
        undone: 0,
        pending: 0,
        length: 0,
      });
    },
    { timeoutMs: Math.max(deadlineMs - Date.now(), 0), intervalMs: 100 },
  );
}

/**
 * G1: what was acknowledged is stored once, under the id of the acknowledgement. What was not may
 * be stored or not, since its answer may have been lost: at most once, and a bulk request
 * completely.
 */
export async function expectStoredOnce(
  { sql }: Pick<Stage, "sql">,
  { tenant, messages, blindIds, blindRequests }: Promised,
  seed: string,
): Promise<void> {
  const where = `${seed}, tenant ${tenant.slug}`;
  const stored = new Map(
    (
      await sql<{ message_id: string; n: number; id: string }[]>`
        select message_id, count(*)::int as n, min(id::text) as id from events
        where tenant_id = ${tenant.tenantId} and message_id is not null group by message_id`
    ).map((row) => [row.message_id, row]),
  );
  const absent = [...messages.keys()].filter((messageId) => !stored.has(messageId));
  expect(absent, `${where}: every acknowledged messageId is stored`).toEqual([]);
  const repeated = [...stored.values()].filter((row) => row.n !== 1).map((row) => row.message_id);
  expect(repeated, `${where}: no messageId is stored twice`).toEqual([]);
  const renamed = [...messages].filter(([messageId, id]) => id && stored.get(messageId)?.id !== id);
  expect(renamed, `${where}: every event has the id that its acknowledgement named`).toEqual([]);

  const counts = await sql<{ id: string; n: number }[]>`
    select wanted.id, count(e.id)::int as n from unnest(${sql.array(blindIds)}::uuid[]) as wanted(id)
    left join events e on e.tenant_id = ${tenant.tenantId} and e.id = wanted.id
    group by wanted.id having count(e.id) <> 1`;
  expect([...counts], `${where}: every acknowledged id is stored exactly once`).toEqual([]);
  expect(new Set(blindIds).size, `${where}: acknowledged ids are unique`).toBe(blindIds.length);

  const sessions = new Map(
    (
      await sql<{ session_id: string; n: number }[]>`
        select session_id, count(*)::int as n from events
        where tenant_id = ${tenant.tenantId} and session_id is not null group by session_id`
    ).map((row) => [row.session_id, row.n]),
  );
  const torn = [...blindRequests].filter(([name, { events, acknowledged }]) => {
    const n = sessions.get(name) ?? 0;
    return n !== events && (acknowledged || n !== 0);
  });
  expect(torn, `${where}: a request is stored whole, or not at all when not acknowledged`).toEqual([]);
}

/** Keys, events and ledger agree with each other. */
export async function expectConsistent({ sql }: Pick<Stage, "sql">, seed: string): Promise<void> {
  const keys = await sql`
    select tenant_id, message_id from event_keys k
    full join (select tenant_id, message_id, id from events where message_id is not null) e using (tenant_id, message_id)
    where k.event_id is distinct from e.id limit 5`;
  expect([...keys], `${seed}: event_keys names exactly the events that brought a messageId`).toEqual([]);
  const ledger = await sql`
    select tenant_id, batch_id, b.stored, e.n from event_batches b
    full join (select tenant_id, batch_id, count(*) as n from events group by 1, 2) e using (tenant_id, batch_id)
    where b.stored is distinct from coalesce(e.n, 0) or b.received <> b.stored + b.duplicates + b.rejected limit 5`;
  expect([...ledger], `${seed}: every ledger row counts the events of its batch`).toEqual([]);
}

/** G2 and G4. */
export async function expectVerified(stage: Stage, seed: string): Promise<void> {
  for (const { slug, tenantId } of stage.tenants) {
    const { rowsChecked, ...report } = await verify(stage, tenantId);
    expect(report, `${seed}: the rollups of ${slug} equal a recount`).toEqual({
      differences: [],
      differing: 0,
      waiting: 0,
      dead: 0,
      filling: [],
      kept: null,
    });
  }
}

export async function verify({ deps, sql }: Pick<Stage, "deps" | "sql">, tenantId: string) {
  const [tenant] = await sql<{ timeZone: string }[]>`
    select time_zone as "timeZone" from tenants where id = ${tenantId}`;
  return verifyTenant(deps.db.transactions, { tenantId, timeZone: tenant?.timeZone ?? "UTC" }, {});
}

/** How often each answer was given, for example `{ "blind 202": 12, "read 200": 3 }`. */
export function tally(attempts: readonly Attempt[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { kind, status } of attempts) {
    const name = `${kind} ${status ?? "lost"}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Fails with the answers that `allowed` does not allow. */
export function expectAnswers(
  attempts: readonly Attempt[],
  allowed: (attempt: Attempt) => boolean,
  why: string,
): void {
  const wrong = attempts.filter((attempt) => !allowed(attempt)).map((attempt) => ({ ...attempt }));
  expect({ ...tally(wrong), examples: wrong.slice(0, 3) }, why).toEqual({ examples: [] });
}
