/**
 * Many clients on one process: an event reaches all of them, and when they have gone, half of them
 * without closing, nothing of them is left. SSE_CLIENTS=2000 is the full number; `./dev bench sse`
 * measures the same.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { type Audience, startAudience } from "../../bench/audience.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import {
  cleanup,
  eventually,
  type FootfallProcess,
  guarded,
  startServer,
  startWorker,
  trackProcess,
} from "../harness.ts";
import { emit } from "./stage.ts";

const CLIENTS = Number(process.env.SSE_CLIENTS) || 300;
const EVENTS = 5;
const REACH_MS = 1_000;
/** How much a process may have grown since a first audience of the same size. */
const GROWTH_MB = 30;

let api: TestApi;
let tenant: TestTenant;
let server: FootfallProcess & { url: string };

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  server = await startServer(api.env);
  await startWorker(api.env);
});
afterAll(cleanup);

const descriptors = () => readdirSync(`/proc/${server.pid}/fd`).length;

async function residentMb(): Promise<number> {
  const status = await Bun.file(`/proc/${server.pid}/status`).text();
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

async function openConnections(): Promise<number> {
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  return Number(/^footfall_sse_connections (\d+)$/m.exec(metrics)?.[1]);
}

/** Milliseconds from an event's commit until every client had it, an event at a time. */
async function reachAll(audience: Audience): Promise<number[]> {
  const took: number[] = [];
  for (let n = 0; n < EVENTS; n += 1) {
    await emit(api, tenant, [{}]);
    const committedAtMs = Date.now();
    const completeAtMs = await eventually(() => audience.completeAtMs(n) ?? null, {
      timeoutMs: 20_000,
      intervalMs: 10,
    });
    took.push(completeAtMs - committedAtMs);
  }
  return took;
}

test(`an event reaches ${CLIENTS} clients, and when they have vanished nothing is left of them`, async () => {
  const before = descriptors();
  const resident: number[] = [await residentMb()];
  const took: number[] = [];
  for (let wave = 0; wave < 3; wave += 1) {
    const audience = await startAudience(server.url, tenant.key, CLIENTS, guarded);
    trackProcess(audience.child);
    expect(descriptors()).toBeGreaterThanOrEqual(before + CLIENTS);
    expect(await openConnections()).toBe(CLIENTS);
    took.push(...(await reachAll(audience)));
    await audience.vanish();
    await eventually(async () => expect(await openConnections()).toBe(0), { timeoutMs: 30_000 });
    // Keep-alive connections of this test's own requests may come and go.
    await eventually(() => expect(descriptors()).toBeLessThanOrEqual(before + 5), { timeoutMs: 30_000 });
    const allowedMb = (resident[1] ?? Number.POSITIVE_INFINITY) + GROWTH_MB;
    await eventually(async () => expect(await residentMb()).toBeLessThan(allowedMb), {
      timeoutMs: 30_000,
      intervalMs: 250,
    });
    resident.push(await residentMb());
  }
  console.log(
    `${CLIENTS} clients: reached after ${took.map(Math.round).join(", ")} ms (wanted ${REACH_MS}); ` +
      `resident ${resident.map(Math.round).join(", ")} MB at first and after each wave`,
  );
}, 240_000);
