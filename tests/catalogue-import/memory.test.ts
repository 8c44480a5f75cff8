/** Large files, good and bad, through real processes: neither holds them in memory. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { callOver, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, type FootfallProcess, startServer, startWorker } from "../harness.ts";
import { CSV } from "./fixtures.ts";

/**
 * Generous: memory that the runtime has not collected yet counts, too. One held file would be over
 * it.
 */
const MAX_GROWTH_MB = 100;
const MB = 1024 * 1024;

let api: TestApi;
let tenant: TestTenant;
let processes: FootfallProcess[];

beforeAll(async () => {
  const own = await createTestApi();
  tenant = await createTenant(own);
  const server = await startServer({ ...own.env, LOG_LEVEL: "error" });
  processes = [server, await startWorker(own.env)];
  api = { ...own, call: callOver(server.url) };
  await importPieces("id,name,price\n", "1,one,1\n", 5_000);
});
afterAll(cleanup);

const residentMb = async ({ pid }: FootfallProcess) =>
  Number(/VmRSS:\s+(\d+)/.exec(await Bun.file(`/proc/${pid}/status`).text())?.[1]) / 1024;

/** Sends a file made on the way, and returns the report of its import. */
async function importPieces(head: string, piece: string, times: number) {
  let sent = -1;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (sent === times) return controller.close();
      controller.enqueue(new Uint8Array(Buffer.from(sent < 0 ? head : piece)));
      sent += 1;
    },
  });
  const accepted = await api.call("POST", "/products/import", { as: tenant.key, body, headers: CSV });
  expect(accepted.status).toBe(202);
  return eventually(
    async () => {
      const { body: report } = await api.call("GET", `/products/imports/${accepted.body.importId}`, {
        as: tenant.key,
      });
      return ["succeeded", "failed"].includes(report.status) ? report : null;
    },
    { timeoutMs: 60_000 },
  );
}

async function growthWhile<T>(work: () => Promise<T>): Promise<{ result: T; grownMb: number[] }> {
  const before = await Promise.all(processes.map(residentMb));
  const peaks = [...before];
  let done = false;
  const watching = (async () => {
    while (!done) {
      for (const [n, child] of processes.entries())
        peaks[n] = Math.max(peaks[n] ?? 0, await residentMb(child));
      await Bun.sleep(20);
    }
  })();
  const result = await work();
  done = true;
  await watching;
  return { result, grownMb: peaks.map((peak, n) => Math.round(peak - (before[n] ?? 0))) };
}

test.skipIf(process.platform !== "linux").each([
  ["a line of 200 MB", "id,name,price\n1,", "x".repeat(MB), 200],
  ["a row of 200 million columns", "id,name,price\n1", ",".repeat(MB), 200],
  [
    "a quote that is never closed before 200 MB of rows",
    'id,name,price\n1,"x,1\n',
    "2,two,1\n".repeat(MB / 8),
    200,
  ],
] as const)(
  "%s ends in a report",
  async (name, head, piece, times) => {
    const { result, grownMb } = await growthWhile(() => importPieces(head, piece, times));
    console.log(`${name}: API and worker grew by ${grownMb.join(" and ")} MB`);
    expect(result).toMatchObject({ status: "failed", rows: 0, created: 0 });
    expect(result.error).toContain("line 2");
    expect(Math.max(...grownMb)).toBeLessThan(MAX_GROWTH_MB);
  },
  120_000,
);

test.skipIf(process.platform !== "linux")(
  "a header of 200 MB is refused",
  async () => {
    const { grownMb } = await growthWhile(async () => {
      const body = new Uint8Array(200 * MB).fill(0x78);
      const answer = await api
        .call("POST", "/products/import", { as: tenant.key, body, headers: CSV })
        .catch(() => null);
      // The answer comes while the client still sends; it may see the connection close instead.
      if (answer) expect(answer.status).toBe(400);
    });
    expect(Math.max(...grownMb)).toBeLessThan(MAX_GROWTH_MB);
  },
  120_000,
);
