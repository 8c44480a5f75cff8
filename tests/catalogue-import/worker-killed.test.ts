/**
 * kill -9 of the worker in the middle of an import, at seeded points: anywhere, and inside the
 * statement that stores a batch, which a lock stops. Afterwards catalogue, report and outbox must
 * be as if nothing had happened. FAULT_ROUNDS and FAULT_ROWS make it longer, FAULT_SEED repeats it.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { callOver, type TestTenant } from "../factories.ts";
import {
  createStage,
  HOOK_MS,
  holdTable,
  rounds,
  type Stage,
  seeded,
  untilBlocked,
} from "../faults/stage.ts";
import { cleanup, eventually, startServer, startWorker } from "../harness.ts";
import { addWebhook, CSV, readOutbox, readProducts } from "./fixtures.ts";

const ROWS = Number(process.env.FAULT_ROWS ?? 20_000);
const ROUNDS = rounds(3);
/** A worker's hold runs out, and the next poll takes the import up. */
const TAKE_OVER_MS = 30_000;

let stage: Stage;
let tenant: TestTenant;
let call: ReturnType<typeof callOver>;

beforeAll(async () => {
  stage = await createStage();
  tenant = stage.tenants[0] as TestTenant;
  call = callOver((await startServer(stage.env)).url);
  await addWebhook(stage, tenant.tenantId);
}, HOOK_MS);
afterAll(cleanup, HOOK_MS);

interface Expected {
  /** id to [name, price]. */
  products: Map<string, [string, string]>;
  counts: { rows: number; created: number; updated: number; failed: number };
  badLines: number[];
}

/** A file with repeated ids, near and far, and bad rows; and the result that it must have. */
function makeFile(pick: (below: number) => number): { text: string; expected: Expected } {
  const lines = ["id,name,price"];
  const products = new Map<string, [string, string]>();
  const counts = { rows: 0, created: 0, updated: 0, failed: 0 };
  const badLines: number[] = [];
  for (let n = 0; n < ROWS; n += 1) {
    counts.rows += 1;
    const id = `p-${pick(4) === 0 ? pick(n + 1) : n}`;
    const [name, cents] = [`Name ${n}, "so"`, pick(100_000)];
    if (pick(50) === 0) {
      lines.push(`${id},,1`);
      counts.failed += 1;
      badLines.push(n + 2);
      continue;
    }
    lines.push(`${id},"${name.replaceAll('"', '""')}",${cents / 100}`);
    counts[products.has(id) ? "updated" : "created"] += 1;
    products.set(id, [name, (cents / 100).toFixed(2)]);
  }
  return { text: `${lines.join("\n")}\n`, expected: { products, counts, badLines } };
}

const progress = async (id: string) => {
  const [row] = await stage.sql<{ rows: number; status: string }[]>`
    select rows, status from product_imports where tenant_id = ${tenant.tenantId} and id = ${id}`;
  return row ?? { rows: 0, status: "absent" };
};

test(
  "an import goes on exactly where a killed worker left it",
  async () => {
    const { random, seed } = seeded("import worker killed");
    const { text, expected } = makeFile((below) => random.between(0, below - 1));
    const { body } = await call("POST", "/products/import", { as: tenant.key, body: text, headers: CSV });
    const id: string = body.importId;
    let kills = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const worker = await startWorker(stage.env);
      const before = (await progress(id)).rows;
      const share = (ROWS / (ROUNDS + 1)) * (0.2 + 0.8 * random.next());
      await eventually(
        async () => {
          const { rows, status } = await progress(id);
          return rows >= before + share || status === "succeeded";
        },
        { timeoutMs: TAKE_OVER_MS + 30_000, intervalMs: 2 },
      );
      const isInside = round % 2 === 0 && (await progress(id)).status === "running";
      const release = isInside ? await holdTable(stage, "product_import_errors") : null;
      if (release) await untilBlocked(stage, "worker");
      worker.kill("SIGKILL");
      await worker.exited;
      await release?.();
      if ((await progress(id)).status === "running") kills += 1;
      // The first time the dead worker's hold runs out by itself; later ones are ended at once.
      if (round > 0) await stage.sql`update product_imports set held_until = now() where status = 'running'`;
    }
    expect(kills, `${seed}: kills in the middle`).toBeGreaterThan(0);
    await startWorker(stage.env);
    await eventually(async () => expect((await progress(id)).status).toBe("succeeded"), {
      timeoutMs: TAKE_OVER_MS + 60_000,
    });
    console.log(`import worker killed: ${kills} kills in the middle of ${ROWS} rows`);
    await expectExactly(id, expected, seed);
  },
  120_000 + ROUNDS * 60_000,
);

async function expectExactly(id: string, expected: Expected, seed: string): Promise<void> {
  const { body: report } = await call("GET", `/products/imports/${id}`, { as: tenant.key });
  expect(report, seed).toMatchObject({ status: "succeeded", error: null, ...expected.counts });
  expect(report.position, seed).toBe(report.bytes);
  const errors =
    await stage.sql`select line from product_import_errors where import_id = ${id} order by line`;
  expect(
    errors.map(({ line }) => line),
    seed,
  ).toEqual(expected.badLines);
  const products = await readProducts(stage, tenant.tenantId);
  expect(products.length, seed).toBe(expected.products.size);
  const wrong = products.filter(
    (product) => expected.products.get(product.id)?.join() !== [product.name, product.price].join(),
  );
  expect(wrong, seed).toEqual([]);
  const events = await readOutbox(stage, tenant.tenantId);
  const created = events.filter(({ topic }) => topic === "product.created");
  expect(new Set(created.map((event) => event.subject_id)).size, seed).toBe(expected.products.size);
  expect(created.length, seed).toBe(expected.products.size);
  // Every version has been told once.
  const told = events.filter(({ topic }) => topic === "product.updated").length;
  expect(told, seed).toBe(products.reduce((sum, { version }) => sum + version - 1, 0));
  expect(events.filter(({ topic }) => topic === "import.finished").length, seed).toBe(1);
  const pieces =
    await stage.sql`select start from product_import_chunks where tenant_id = ${tenant.tenantId}`;
  expect(pieces.length, seed).toBe(0);
}
