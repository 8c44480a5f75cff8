import { expectOnly, type LoadResult, runLoad } from "./load.ts";
import type { Stage } from "./stage.ts";

/**
 * `POST /events` at 64 connections: with group commit, with a commit an event, and with the write
 * stubbed out.
 */
export async function measureSingle(stage: Stage) {
  const rates: Record<string, LoadResult> = {};
  const rounds: Record<string, number[]> = { stub: [], coalesced: [], each: [] };
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const mode of ["stub", "coalesced", "each"]) {
      const server = await stage.start(["bench/ingest-server.ts", mode], "ready");
      const load = {
        url: `${server.url}/events`,
        method: "POST" as const,
        headers: { "content-type": "application/json", "x-api-key": stage.apiKey },
        body: JSON.stringify({
          type: "view",
          productId: "p1",
          userId: "u1",
          properties: { device: "mobile", country: "DE" },
        }),
        connections: 64,
      };
      await runLoad({ ...load, seconds: WARM_UP_SECONDS });
      const result = await runLoad({ ...load, seconds: SECONDS });
      expectOnly(202, result);
      rates[mode] = result;
      rounds[mode]?.push(result.requestsPerSecond);
      await server.stop();
    }
  }
  const rate = (mode: string) => median(rounds[mode] ?? []);
  return {
    generator: rates.coalesced?.generator,
    coalesced: rate("coalesced"),
    each: rate("each"),
    stub: rate("stub"),
    p99Ms: rates.coalesced?.p99Ms ?? Number.NaN,
    overEach: rate("coalesced") / rate("each"),
    ofStub: rate("coalesced") / rate("stub"),
  };
}

const ROUNDS = 3;
const WARM_UP_SECONDS = 2;
const SECONDS = 5;

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
