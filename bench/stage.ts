import postgres from "postgres";
import { guarded, stopChild } from "../scripts/processes.ts";
import { parseConfig } from "../src/config.ts";
import { operatorContext } from "../src/core/principal.ts";
import { migrateDatabase } from "../src/db/migrate.ts";
import { createDeps, type Deps } from "../src/deps.ts";

/**
 * What every measurement uses: a database of its own on the server of DATABASE_URL (dropped and
 * made anew), a tenant with an API key, and child processes of the product. Ratios compare runs on
 * one stage.
 */
export interface Stage {
  deps: Deps;
  databaseUrl: string;
  tenantId: string;
  apiKey: string;
  /** Starts `bun <args>` with the stage's environment and waits for `ready` on its output. */
  start(args: string[], ready: string, port?: number): Promise<Child>;
  close(): Promise<void>;
}

export interface Child {
  url: string;
  pid: number;
  /** Resident memory now, in MiB. */
  rssMb(): Promise<number>;
  stop(): Promise<void>;
}

const DATABASE = "footfall_bench";
/** One credential sends all the load. */
const UNLIMITED = {
  RATE_LIMIT_EVENTS_WRITE: "off",
  RATE_LIMIT_ANALYTICS: "off",
  RATE_LIMIT_STANDARD: "off",
  RATE_LIMIT_IMPORT: "off",
};
const FIRST_PORT = 3900;
/** After an overload work is left, which a stopping process finishes. */
const STOP_MS = 60_000;

export async function createStage(): Promise<Stage> {
  const base = parseConfig({ ...process.env, ...UNLIMITED, HOST: "127.0.0.1" });
  const url = new URL(base.databaseUrl);
  const maintenance = postgres(base.databaseUrl, { max: 1, onnotice: () => {} });
  await maintenance.unsafe(`drop database if exists ${DATABASE} with (force)`);
  await maintenance.unsafe(`create database ${DATABASE}`);
  await maintenance.end();
  url.pathname = `/${DATABASE}`;
  const databaseUrl = url.href;
  await migrateDatabase({ url: databaseUrl, prepare: false, applicationName: "bench" });
  const deps = createDeps({ ...base, databaseUrl, logLevel: "warn" }, "bench");
  const tenantId = await deps.identity.ensureTenant("bench", "Bench");
  const { key } = await deps.apiKeys.createApiKey(operatorContext(tenantId), {
    name: "bench",
    kind: "secret",
    scopes: ["admin"],
  });
  let nextPort = FIRST_PORT;

  return {
    deps,
    databaseUrl,
    tenantId,
    apiKey: key,
    async start(args, ready, port = nextPort++) {
      const env = {
        ...process.env,
        ...UNLIMITED,
        DATABASE_URL: databaseUrl,
        PORT: String(port),
        HOST: "127.0.0.1",
        LOG_LEVEL: "info",
      };
      const child = Bun.spawn(guarded([process.execPath, ...args]), {
        env,
        stdout: "pipe",
        stderr: "inherit",
      });
      await waitForOutput(child.stdout, ready);
      return {
        url: `http://127.0.0.1:${port}`,
        pid: child.pid,
        rssMb: () => residentMb(child.pid),
        stop: async () => void (await stopChild(child, { graceMs: STOP_MS })),
      };
    },
    async close() {
      deps.redis.disconnect();
      await deps.db.close();
    },
  };
}

/** Goes on reading after the line, so that the child never blocks on a full pipe. */
async function waitForOutput(stream: ReadableStream<Uint8Array>, ready: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  void (async () => {
    let seen = "";
    for await (const chunk of stream) {
      if (seen.length < 100_000) seen += Buffer.from(chunk).toString();
      if (seen.includes(ready)) resolve();
    }
    reject(new Error(`the process ended before it said "${ready}": ${seen}`));
  })();
  return promise;
}

async function residentMb(pid: number): Promise<number> {
  const status = await Bun.file(`/proc/${pid}/status`).text();
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN) / 1024;
}

const TYPES = [
  "view",
  "view",
  "view",
  "view",
  "view",
  "view",
  "click",
  "click",
  "add_to_cart",
  "checkout_start",
  "purchase",
  "search",
];

/** `count` events like a shop's: a thousand products, five thousand users, the last hour. */
export function sampleEvents(count: number): object[] {
  const pick = (n: number) => Math.floor(Math.random() * n);
  return Array.from({ length: count }, () => {
    const type = TYPES[pick(TYPES.length)];
    const sale = type === "purchase" ? { quantity: 1 + pick(3), price: (100 + pick(9_900)) / 100 } : {};
    return {
      type,
      productId: `p${pick(1_000)}`,
      userId: `u${pick(5_000)}`,
      sessionId: `s${pick(20_000)}`,
      timestamp: Date.now() - pick(3_600_000),
      properties: {
        device: ["mobile", "desktop", "tablet"][pick(3)],
        country: ["DE", "FR", "GB", "US"][pick(4)],
        ...sale,
      },
    };
  });
}

/** Resolves when no batch waits to be rolled up. */
export async function untilRolledUp({ deps }: Stage): Promise<void> {
  for (;;) {
    const [row] = await deps.db.read<{ waiting: number }[]>`
      select count(*)::int as waiting from event_batches where rolled_up_at is null`;
    if (row?.waiting === 0) return;
    await Bun.sleep(20);
  }
}
