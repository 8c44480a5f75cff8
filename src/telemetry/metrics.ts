import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { withDeadline } from "../core/deadline.ts";

/** A scrape must not wait for a database that hangs. */
const SCRAPE_WAIT_MS = 1_000;

export type Metrics = ReturnType<typeof createMetrics>;

/**
 * Every metric of the process, made once and passed in; names follow the Prometheus conventions.
 */
export function createMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counter = <L extends string>(name: string, help: string, labelNames: L[] = []) =>
    new Counter({ name, help, labelNames, registers: [registry] });
  /**
   * For gauges whose numbers are read when they are scraped. The module that knows the numbers sets
   * it.
   */
  const onScrape = { orderQueue: async (): Promise<void> => {} };
  return {
    registry,
    /** A gauge that is read when it is scraped; while `read` fails, it keeps its last value. */
    observe(name: string, help: string, read: () => Promise<number>): void {
      const gauge: Gauge = new Gauge({
        name,
        help,
        registers: [registry],
        collect: () =>
          withDeadline(read(), SCRAPE_WAIT_MS, () => new Error("too slow")).then(
            (value) => gauge.set(value),
            () => {},
          ),
      });
    },
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
    rollupsPaused: counter(
      "footfall_rollup_pauses_total",
      "Tenants whose batches could not be rolled up and wait for a retry",
    ),
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
    cacheRefusals: counter(
      "footfall_cache_refusals_total",
      "Answers that were not cached: too large, or their tenant had no room left",
    ),
    requestsShed: counter("footfall_requests_shed_total", "Requests refused under load, by priority", [
      "priority",
    ]),
    loadLevel: new Gauge({
      name: "footfall_load_level",
      help: "Step of the load ladder, 0 is normal",
      registers: [registry],
    }),
    readBreakerOpen: new Gauge({
      name: "footfall_read_breaker_open",
      help: "1 while reads from Postgres are refused at once",
      registers: [registry],
    }),
    domainEventsAnnounced: counter(
      "footfall_domain_events_announced_total",
      "Domain events announced on the stream, repetitions included",
    ),
    domainEventsGivenUp: counter(
      "footfall_domain_events_given_up_total",
      "Domain events that a consumer could not handle, after its last try",
      ["consumer"],
    ),
    notificationsStored: counter("footfall_notifications_stored_total", "Notifications stored"),
    notificationsPushed: counter(
      "footfall_notifications_pushed_total",
      "Notifications sent to connected clients, once a client",
    ),
    streamsOpen: new Gauge({
      name: "footfall_sse_connections",
      help: "Server-sent event streams that are open",
      registers: [registry],
    }),
    streamsClosed: counter("footfall_sse_closed_total", "Server-sent event streams by why they ended", [
      "reason",
    ]),
    downloadsOpen: new Gauge({
      name: "footfall_downloads_open",
      help: "Exports that are being sent",
      registers: [registry],
    }),
    downloadBytes: new Gauge({
      name: "footfall_download_untaken_bytes",
      help: "Bytes of exports that are made and that clients have not taken",
      registers: [registry],
    }),
    downloadsCutOff: counter(
      "footfall_downloads_cut_off_total",
      "Exports that were ended because their client did not read",
    ),
    webhookAttempts: counter("footfall_webhook_attempts_total", "Attempts to deliver a webhook", ["outcome"]),
    webhooksDue: new Gauge({
      name: "footfall_webhooks_due",
      help: "Deliveries whose time has come, in all workers' queue",
      registers: [registry],
    }),
    redisFallbacks: counter(
      "footfall_redis_fallbacks_total",
      "Operations done without Redis because it was away",
      ["operation"],
    ),
  };
}
