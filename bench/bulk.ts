import { unlink } from "node:fs/promises";
import { expectOnly, runLoad } from "./load.ts";
import { median } from "./single.ts";
import { type Stage, sampleEvents, untilRolledUp } from "./stage.ts";

/**
 * `POST /events/bulk` of 1,000 events against psql's \copy of the same rows into the same table,
 * then how fast one worker drains that backlog. Postgres, API, worker and load generator share the
 * machine.
 */
export async function measureBulk(stage: Stage) {
  const bulkRates: number[] = [];
  const copyRates: number[] = [];
  const drainRates: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    await truncate(stage);
    const server = await stage.start(["src/cli.ts", "serve"], "api started");
    const body = JSON.stringify({ events: sampleEvents(BATCH) });
    const load = {
      url: `${server.url}/events/bulk`,
      method: "POST" as const,
      headers: { "content-type": "application/json", "x-api-key": stage.apiKey },
      body,
      connections: 4,
    };
    await runLoad({ ...load, seconds: 1 });
    await truncate(stage);
    const startedAt = performance.now();
    const result = await runLoad({ ...load, seconds: SECONDS });
    expectOnly(202, result);
    await server.stop();
    const filled = await countEvents(stage);
    bulkRates.push(filled / ((performance.now() - startedAt) / 1000));
    drainRates.push(await drain(stage, filled));
    copyRates.push(await copyBack(stage));
  }
  const [bulk, copy, drained] = [median(bulkRates), median(copyRates), median(drainRates)];
  return { bulk, copy, drained, ofCopy: bulk / copy, drainOverFill: drained / bulk };
}

const ROUNDS = 3;
const BATCH = 1_000;
const SECONDS = 5;

/** Events a second from a worker's start (its connections made) to the last batch done. */
async function drain(stage: Stage, events: number): Promise<number> {
  const worker = await stage.start(["src/cli.ts", "worker"], "worker started");
  const startedAt = performance.now();
  await untilRolledUp(stage);
  const seconds = (performance.now() - startedAt) / 1000;
  await worker.stop();
  return events / seconds;
}

/** The very rows that bulk stored, copied out, the table emptied, and copied in again by psql. */
async function copyBack(stage: Stage): Promise<number> {
  const file = `${process.env.TMPDIR ?? "/tmp"}/footfall-bench-copy-${process.pid}.csv`;
  await psql(stage, `\\copy (select * from events order by received_at, batch_id) to '${file}' csv`);
  const rows = await countEvents(stage);
  await truncate(stage);
  const startedAt = performance.now();
  await psql(stage, `\\copy events from '${file}' csv`);
  const seconds = (performance.now() - startedAt) / 1000;
  await unlink(file);
  return rows / seconds;
}

async function psql({ databaseUrl }: Stage, command: string): Promise<void> {
  const child = Bun.spawn(["psql", databaseUrl, "-q", "-v", "ON_ERROR_STOP=1", "-c", command], {
    stdout: "ignore",
  });
  if ((await child.exited) !== 0) throw new Error(`psql failed: ${command}`);
}

async function truncate({ deps }: Stage): Promise<void> {
  await deps.db.write`truncate events, event_batches, event_keys`;
  await deps.db.write.unsafe("checkpoint");
}

async function countEvents({ deps }: Stage): Promise<number> {
  const [row] = await deps.db.transactions<{ count: number }[]>`select count(*)::int as count from events`;
  return row?.count ?? 0;
}
