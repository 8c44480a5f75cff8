import { createApp } from "../src/app.ts";
import { parseConfig } from "../src/config.ts";
import { newId } from "../src/core/ids.ts";
import { createDeps } from "../src/deps.ts";
import { createEventsService, type EventWriter, insertBatches } from "../src/features/events/index.ts";

/**
 * The API with another writer of single events. `coalesced` is the product; `each` commits every
 * event in a statement of its own; `stub` writes nothing, which is the most the route can do.
 */
const mode = process.argv[2];
const config = parseConfig();
const deps = createDeps(config, `bench ${mode}`);
const { db, writer, readTenantSettings } = deps;

const writers: Record<string, EventWriter> = {
  coalesced: writer,
  each: {
    ...writer,
    async write(tenantId, event, receivedAtMs) {
      const batch = { tenantId, batchId: newId(), receivedAtMs, received: 1, rejected: 0, events: [event] };
      await insertBatches(db.write, [batch]);
      return { id: event.id, duplicate: false };
    },
  },
  stub: { ...writer, write: async (_tenantId, event) => ({ id: event.id, duplicate: false }) },
};
const chosen = writers[mode ?? ""];
if (!chosen) throw new Error(`unknown mode ${mode}: coalesced, each or stub`);

const events = createEventsService({
  read: db.read,
  readGuard: deps.readGuard,
  writer: chosen,
  readTenantSettings,
  findPrices: deps.findPrices,
  maxAgeDays: config.eventMaxAgeDays,
});
const app = createApp({ ...deps, events }, { ...config, version: "bench" });
Bun.serve({ hostname: config.host, port: config.port, fetch: app.fetch });
console.log("ready");
process.on("SIGTERM", () => process.exit(0));
