import { readdirSync } from "node:fs";
import { newId } from "../src/core/ids.ts";
import { operatorContext } from "../src/core/principal.ts";
import { insertDomainEvents } from "../src/features/outbox/index.ts";
import { startAudience } from "./audience.ts";
import { median } from "./single.ts";
import type { Child, Stage } from "./stage.ts";

/**
 * From the commit of a domain event until the last of 2,000 clients of one process has it, relay,
 * consumer and push included. Then what the process holds before the clients, with them and after
 * them, and how fast a backlog of domain events becomes notifications.
 */
export async function measureSse(stage: Stage) {
  const api = await stage.start(["src/cli.ts", "serve"], "api started");
  const worker = await stage.start(["src/cli.ts", "worker"], "worker started");
  const { key } = await stage.deps.apiKeys.createApiKey(operatorContext(stage.tenantId), {
    name: "audience",
    kind: "secret",
    scopes: ["products:read"],
  });
  const took: number[] = [];
  const connected: number[] = [];
  const figures: Record<string, number> = {};
  const note = async (when: string) => {
    figures[`descriptors ${when}`] = descriptorsOf(api);
    figures[`residentMb ${when}`] = Math.round(await api.rssMb());
  };
  await note("before");
  for (let wave = 1; wave <= WAVES; wave += 1) {
    const startedAt = performance.now();
    const audience = await startAudience(api.url, key, CLIENTS);
    connected.push(performance.now() - startedAt);
    for (let n = 0; n < EVENTS; n += 1) {
      await emitOne(stage);
      const committedAtMs = Date.now();
      while (audience.completeAtMs(n) === undefined) await Bun.sleep(5);
      took.push((audience.completeAtMs(n) ?? Number.NaN) - committedAtMs);
    }
    await note(`wave ${wave}`);
    await audience.vanish();
    await Bun.sleep(SETTLE_MS);
    await note(`after ${wave}`);
  }
  const storedPerSecond = await measureBacklog(stage);
  await api.stop();
  await worker.stop();
  return {
    clients: CLIENTS,
    connectAllMs: median(connected),
    reachAllP50Ms: median(took),
    reachAllMaxMs: Math.max(...took),
    ...figures,
    storedPerSecond,
  };
}

const CLIENTS = 2_000;
const WAVES = 3;
const EVENTS = 20;
/** For the collector of garbage to notice. */
const SETTLE_MS = 10_000;
const BACKLOG = 50_000;

function descriptorsOf({ pid }: Child): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

async function emitOne({ deps, tenantId }: Stage): Promise<void> {
  const payload = { before: { price: 4.95, quantity: 10 }, after: { price: 4.5, quantity: 9 } };
  await deps.db.transaction((tx) =>
    insertDomainEvents(tx, tenantId, [
      { topic: "product.updated", subjectId: newId(), sellerId: null, payload, consumers: ["notifications"] },
    ]),
  );
}

async function measureBacklog({ deps, tenantId }: Stage): Promise<number> {
  const startedAt = performance.now();
  await deps.db.write`
    insert into outbox (tenant_id, id, topic, subject_id, payload, undone, created_at, announce_at)
    select ${tenantId}, gen_random_uuid(), 'product.updated', 'p', '{"after":{"price":1}}', '{notifications}', now(), now()
    from generate_series(1, ${BACKLOG})`;
  for (;;) {
    const waiting = await deps.db.read`
      select from outbox where tenant_id = ${tenantId} and undone <> '{}' limit 1`;
    if (waiting.length === 0) return BACKLOG / ((performance.now() - startedAt) / 1000);
    await Bun.sleep(20);
  }
}
