import { type Child, type Stage, sampleEvents } from "./stage.ts";

/**
 * From the 202 of an event to the first analytics answer that counts it, under a steady load of
 * 2,000 events/s (bulks of 20), with API and worker as two processes; then their memory. The probe
 * asks every 5 ms.
 */
export async function measureFreshness(stage: Stage) {
  const api = await stage.start(["src/cli.ts", "serve"], "api started");
  const worker = await stage.start(["src/cli.ts", "worker"], "worker started");
  const stopLoad = startLoad(stage, api);
  const latencies: number[] = [];
  let apiPeak = 0;
  let workerPeak = 0;
  for (let probe = 0; probe < PROBES; probe += 1) {
    latencies.push(await probeOnce(stage, api, `probe-${probe}`));
    apiPeak = Math.max(apiPeak, await api.rssMb());
    workerPeak = Math.max(workerPeak, await worker.rssMb());
    await Bun.sleep(Math.random() * 100);
  }
  const { eventsPerSecond } = await stopLoad();
  await api.stop();
  await worker.stop();
  latencies.sort((a, b) => a - b);
  const at = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? Number.NaN;
  return {
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: at(1),
    eventsPerSecond,
    apiPeakMb: apiPeak,
    workerPeakMb: workerPeak,
  };
}

const PROBES = 300;
const BULK = 20;
const BULKS_PER_SECOND = 100;
const POLL_MS = 5;

async function probeOnce({ apiKey }: Stage, api: Child, productId: string): Promise<number> {
  const headers = { "content-type": "application/json", "x-api-key": apiKey };
  const body = JSON.stringify({ type: "view", productId, anonymousId: "probe" });
  const accepted = await fetch(`${api.url}/events`, { method: "POST", headers, body });
  if (accepted.status !== 202) throw new Error(`the probe was answered ${accepted.status}`);
  await accepted.arrayBuffer();
  const startedAt = performance.now();
  for (;;) {
    const answer = await fetch(`${api.url}/analytics/products/${productId}/timeseries?days=1`, { headers });
    const { points } = (await answer.json()) as { points: { views: number }[] };
    if (points.some((point) => point.views === 1)) return performance.now() - startedAt;
    await Bun.sleep(POLL_MS);
  }
}

/**
 * An open loop: a late answer does not delay the next request. Returns how to stop it and the rate
 * it achieved.
 */
function startLoad({ apiKey }: Stage, api: Child) {
  const headers = { "content-type": "application/json", "x-api-key": apiKey };
  const startedAt = performance.now();
  let sent = 0;
  let accepted = 0;
  const pending = new Set<Promise<void>>();
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - startedAt) / 1000) * BULKS_PER_SECOND);
    for (; sent < due; sent += 1) {
      const request = fetch(`${api.url}/events/bulk`, {
        method: "POST",
        headers,
        body: JSON.stringify({ events: sampleEvents(BULK) }),
      })
        .then(async (answer) => {
          await answer.arrayBuffer();
          if (answer.status === 202) accepted += BULK;
        })
        .finally(() => pending.delete(request));
      pending.add(request);
    }
  }, 5);
  return async () => {
    clearInterval(timer);
    await Promise.all(pending);
    return { eventsPerSecond: accepted / ((performance.now() - startedAt) / 1000) };
  };
}
