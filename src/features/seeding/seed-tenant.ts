import { type EventWriter, frameOfRecords, parseEvent } from "../events/index.ts";
import type { ReadTenantSettings } from "../identity/index.ts";
import { createBulkLoader, type LoadTotals } from "../importing/index.ts";
import { generateEvents, type SeedOptions } from "./generate-events.ts";

export interface SeedDeps {
  writer: EventWriter;
  readTenantSettings: ReadTenantSettings;
}

export interface SeedRun {
  /** Counts so far. */
  readonly totals: LoadTotals;
  /** Resolves after the last commit. */
  run(): Promise<void>;
}

/**
 * Stores generated events in a tenant, with the same check and the same writer as events that are
 * sent.
 */
export function createSeedRun(
  { writer, readTenantSettings }: SeedDeps,
  tenantId: string,
  options: SeedOptions,
): SeedRun {
  const loader = createBulkLoader(writer, tenantId);
  return {
    totals: loader.totals,
    async run() {
      const money = await readTenantSettings(tenantId);
      for (const input of generateEvents(options)) {
        const parsed = parseEvent(input, frameOfRecords(money));
        if ("errors" in parsed) throw new Error(`generated a bad event: ${JSON.stringify(parsed.errors)}`);
        if (loader.add(parsed.event)) await loader.flush();
      }
      await loader.finish();
    },
  };
}
