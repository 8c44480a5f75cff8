import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

export type Metrics = ReturnType<typeof createMetrics>;

/** Every metric of the process, made once and passed in; names follow the Prometheus conventions. */
export function createMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counter = <L extends string>(name: string, help: string, labelNames: L[] = []) =>
    new Counter({ name, help, labelNames, registers: [registry] });
  /** For gauges whose numbers are read when they are asked for; set by whoever knows them. */
  const onScrape = { orderQueue: async (): Promise<void> => {} };
  return {
    registry,
    onScrape,
    httpRequests: counter("footfall_http_requests_total", "Requests by method and status class", [
      "method",
      "status",
    ]),
    httpDuration: new Histogram({
      name: "footfall_http_request_duration_seconds",
      help: "Time to answer",
      buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers: [registry],
    }),
    eventsIngested: counter("footfall_events_ingested_total", "Events by outcome", ["outcome"]),
    ingestFlushes: counter("footfall_ingest_flushes_total", "Group commits"),
    announcementsFailed: counter(
      "footfall_announcements_failed_total",
      "Batches that could not be announced on the stream",
    ),
    batchesRolledUp: counter("footfall_batches_rolled_up_total", "Ledger rows rolled up", ["by"]),
    batchesDeadLettered: counter("footfall_batches_dead_lettered_total", "Ledger rows given up"),
    rollupDuration: new Histogram({
      name: "footfall_rollup_duration_seconds",
      help: "Time of one rollup statement",
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers: [registry],
    }),
    orderCommands: counter("footfall_order_commands_handled_total", "Order commands handled here", [
      "outcome",
    ]),
    orderCommandFailures: counter(
      "footfall_order_command_failures_total",
      "Tries of order commands that failed here",
    ),
    orderTransactionDuration: new Histogram({
      name: "footfall_order_transaction_duration_seconds",
      help: "Time of one transaction that handles order commands",
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
      registers: [registry],
    }),
    orderQueue: new Gauge({
      name: "footfall_order_queue",
      help: "Order commands of the installation, by what is counted",
      labelNames: ["what"],
      registers: [registry],
      collect: async () => {
        await onScrape.orderQueue();
      },
    }),
    ingestQueued: new Gauge({
      name: "footfall_ingest_queued_events",
      help: "Events waiting for a commit",
      registers: [registry],
    }),
    cacheReads: counter("footfall_cache_reads_total", "Cached reads by outcome", ["outcome"]),
    redisFallbacks: counter(
      "footfall_redis_fallbacks_total",
      "Operations done without Redis because it was away",
      ["operation"],
    ),
  };
}
