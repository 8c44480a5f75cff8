import { unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Child, Stage } from "./stage.ts";

/**
 * A million products from a CSV file: upload and import of new ones, import of the same file with
 * other prices, and export, with API and worker as two processes. Also measures how far the memory
 * of each grows.
 */
export async function measureProducts(stage: Stage) {
  const api = await stage.start(["src/cli.ts", "serve"], "api started");
  const worker = await stage.start(["src/cli.ts", "worker"], "worker started");
  const file = join(tmpdir(), `footfall-bench-products-${process.pid}.csv`);
  try {
    await writeCsv(file, WARM_UP_ROWS, 0);
    await importFile(stage, api, file);
    const memory = watchMemory({ api, worker });
    await writeCsv(file, ROWS, 0);
    const created = await importFile(stage, api, file);
    await writeCsv(file, ROWS, 1);
    const updated = await importFile(stage, api, file);
    const grown = await memory.stop();
    const exportMemory = watchMemory({ api, worker });
    const exportSeconds = await exportAll(stage, api);
    const grownByExport = await exportMemory.stop();
    return {
      uploadSeconds: created.uploadSeconds,
      createSeconds: created.seconds,
      createdPerSecond: ROWS / created.seconds,
      updateSeconds: updated.seconds,
      updatedPerSecond: ROWS / updated.seconds,
      exportedPerSecond: ROWS / exportSeconds,
      apiGrowthMb: grown.api,
      workerGrowthMb: grown.worker,
      apiGrowthByExportMb: grownByExport.api,
    };
  } finally {
    await unlink(file);
    await api.stop();
    await worker.stop();
  }
}

const ROWS = Number(process.env.BENCH_ROWS ?? 1_000_000);
const WARM_UP_ROWS = 5_000;
const POLL_MS = 100;

async function writeCsv(path: string, rows: number, raise: number): Promise<void> {
  const writer = Bun.file(path).writer();
  writer.write("id,sku,name,description,price,quantity,category,imageUrl,status,sellerId\n");
  for (let n = 0; n < rows; n += 1) {
    const price = ((n % 10_000) / 100 + raise).toFixed(2);
    writer.write(
      `P-${n},SKU-${n},"Product ${n}, ""deluxe""",A thing of many uses,${price},${n % 500},Category ${n % 200},https://img.example.com/${n}.jpg,active,seller-${n % 50}\n`,
    );
    if (n % 10_000 === 0) await writer.flush();
  }
  await writer.end();
}

/** Seconds from the first byte sent to the answer, and to the end of the import. */
async function importFile({ apiKey }: Stage, api: Child, path: string) {
  const headers = { "content-type": "text/csv", "x-api-key": apiKey };
  const startedAt = performance.now();
  const seconds = () => (performance.now() - startedAt) / 1_000;
  const accepted = await fetch(`${api.url}/products/import`, {
    method: "POST",
    headers,
    body: Bun.file(path),
  });
  if (accepted.status !== 202) throw new Error(`the import was answered ${accepted.status}`);
  const { importId } = (await accepted.json()) as { importId: string };
  const uploadSeconds = seconds();
  for (;;) {
    const answer = await fetch(`${api.url}/products/imports/${importId}`, { headers });
    const { status, failed } = (await answer.json()) as { status: string; failed: number };
    if (status === "succeeded" && failed === 0) return { uploadSeconds, seconds: seconds() };
    if (status === "failed" || failed > 0)
      throw new Error(`the import ended ${status}, ${failed} rows failed`);
    await Bun.sleep(POLL_MS);
  }
}

async function exportAll({ apiKey }: Stage, api: Child): Promise<number> {
  const startedAt = performance.now();
  const answer = await fetch(`${api.url}/products/export`, { headers: { "x-api-key": apiKey } });
  if (!answer.body) throw new Error(`the export was answered ${answer.status}`);
  let lines = -1;
  for await (const chunk of answer.body)
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) lines += 1;
  if (lines !== ROWS) throw new Error(`${lines} products were exported`);
  return (performance.now() - startedAt) / 1_000;
}

/** The highest resident memory of each process above that at the start, in MiB. */
function watchMemory(children: Record<"api" | "worker", Child>) {
  const start = { api: 0, worker: 0 };
  const peak = { api: 0, worker: 0 };
  let stopped = false;
  const watching = (async () => {
    for (const name of ["api", "worker"] as const) start[name] = await children[name].rssMb();
    while (!stopped) {
      for (const name of ["api", "worker"] as const)
        peak[name] = Math.max(peak[name], await children[name].rssMb());
      await Bun.sleep(POLL_MS);
    }
  })();
  return {
    async stop() {
      stopped = true;
      await watching;
      return { api: peak.api - start.api, worker: peak.worker - start.worker };
    },
  };
}
