import { type EventWriter, frameOfRecords, parseEvent } from "../events/index.ts";
import { createBulkLoader, type LoadTotals } from "../importing/index.ts";
import { generateEvents, type SeedOptions } from "./generate-events.ts";

export interface SeedRun {
  /** Counts so far. */
  readonly totals: LoadTotals;
  /** Resolves after the last commit. */
  run(): Promise<void>;
}

/** Stores generated events in a tenant by way of the same check and the same writer as events that are sent. */
export function createSeedRun(writer: EventWriter, tenantId: string, options: SeedOptions): SeedRun {
  const loader = createBulkLoader(writer, tenantId);
  return {
    totals: loader.totals,
    async run() {
      for (const input of generateEvents(options)) {
        const parsed = parseEvent(input, frameOfRecords());
        if ("errors" in parsed) throw new Error(`generated a bad event: ${JSON.stringify(parsed.errors)}`);
        if (loader.add(parsed.event)) await loader.flush();
      }
      await loader.finish();
    },
  };
}
