import { withDeadline } from "../../core/deadline.ts";
import { AppError } from "../../core/errors.ts";
import { newId } from "../../core/ids.ts";
import { createSemaphore } from "../../core/semaphore.ts";
import type { Sql } from "../../db/client.ts";
import { classifyFailure, retryRolledBack, sqlState } from "../../db/failures.ts";
import type { EventPartitions } from "../../db/partitions.ts";
import type { Announcer } from "../../streams/producer.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { type Batch, findEventIds, insertBatches, keepEventKeys, keyOf } from "./ledger-repository.ts";
import type { ParsedEvent } from "./parse-event.ts";

/**
 * Group commit. Single events that arrive while a commit is under way go together into the next
 * one: one statement, one fsync and one ledger row a tenant. One commit at a time: more made
 * smaller batches and were slower (20,700/s against 13,700 with two and 12,800 with four, 64
 * connections). Each caller is answered after the commit that holds its event. Bulk requests are
 * batches already and are committed at once.
 */
export interface WriteOutcome {
  id: string;
  duplicate: boolean;
}

export interface BulkOutcome {
  inserted: number;
  duplicates: number;
}

export interface EventWriter {
  /**
   * Resolves after the commit. Throws `unavailable` when too many events wait or Postgres is away.
   */
  write(tenantId: string, event: ParsedEvent, receivedAtMs: number): Promise<WriteOutcome>;
  /**
   * Commits the events of one request together. `keepKeys` makes their messageIds known for ever
   * (imports).
   */
  writeBulk(batch: Omit<Batch, "batchId">, options?: { keepKeys?: boolean }): Promise<BulkOutcome>;
  /** Resolves when all is committed and announced: the writer's part of a graceful shutdown. */
  drain(): Promise<void>;
}

export interface EventWriterDeps {
  sql: Sql;
  partitions: EventPartitions;
  announcer: Announcer;
  metrics: Metrics;
}

const MAX_FLUSH_EVENTS = 1_000;
const MAX_FLUSH_BYTES = 4 * 1024 * 1024;
const MAX_QUEUED_EVENTS = 20_000;
const MAX_QUEUED_BYTES = 64 * 1024 * 1024;
const MAX_BULK_RUNNING = 3;
/** Each may hold a body of MAX_BULK_BYTES, parsed. */
const MAX_BULK_WAITING = 32;
/** Longer than the pool's statement timeout, which only a reachable server can enforce. */
const COMMIT_DEADLINE_MS = 35_000;

interface Waiting {
  tenantId: string;
  event: ParsedEvent;
  receivedAtMs: number;
  resolve(outcome: WriteOutcome): void;
  reject(error: unknown): void;
}

export function createEventWriter(deps: EventWriterDeps): EventWriter {
  const { sql, partitions, announcer, metrics } = deps;
  const bulkSlots = createSemaphore(MAX_BULK_RUNNING, MAX_BULK_WAITING);
  const queue: Waiting[] = [];
  let queuedBytes = 0;
  let flushing = false;
  /**
   * Commits and announcements under way, also those whose client has gone: shutdown waits for them.
   */
  const unfinished = new Set<Promise<unknown>>();

  function track<T>(work: Promise<T>): Promise<T> {
    const settled = work.catch(() => {}).finally(() => unfinished.delete(settled));
    unfinished.add(settled);
    return work;
  }

  /**
   * Inserts, answers which events were duplicates, and announces. The only place where events are
   * written.
   */
  async function commit(batches: Batch[], keepKeys: boolean): Promise<Set<string>> {
    const insert = async () => {
      await partitions.ensure(timesOf(batches));
      return retryRolledBack(() => insertBatches(sql, batches, keepKeys));
    };
    const inserted = insert().catch((error) => {
      if (sqlState(error) !== NO_PARTITION) throw error;
      // Retention dropped a month that this process remembered.
      partitions.forget();
      return insert();
    });
    // A connection whose peer fell silent would stop all single events: postgres.js itself waits
    // for ever.
    const duplicates = await withDeadline(inserted, COMMIT_DEADLINE_MS, () => {
      return new AppError("unavailable", "The commit takes too long; whether it happened is not known.");
    });
    void track(announcer.announce(batches.map(toAnnouncement)));
    return duplicates;
  }

  /**
   * Starts after the sockets were read, so that all requests of one turn of the event loop share a
   * commit.
   */
  function scheduleFlush(): void {
    if (flushing || queue.length === 0) return;
    flushing = true;
    const flushed = new Promise<void>((resolve) => setImmediate(resolve)).then(async () => {
      await flushGroup(takeGroup());
      flushing = false;
      scheduleFlush();
    });
    void track(flushed);
  }

  /** The head of the queue, as much of it as one statement should carry. */
  function takeGroup(): Waiting[] {
    let count = 0;
    let bytes = 0;
    while (count < queue.length && count < MAX_FLUSH_EVENTS && bytes < MAX_FLUSH_BYTES) {
      bytes += sizeOf(queue[count]?.event);
      count += 1;
    }
    queuedBytes -= bytes;
    const group = queue.splice(0, count);
    metrics.ingestQueued.set(queue.length);
    return group;
  }

  async function flushGroup(group: Waiting[]): Promise<void> {
    metrics.ingestFlushes.inc();
    let duplicates: Set<string>;
    try {
      duplicates = await commit(toBatches(group), false);
    } catch (error) {
      // One event that Postgres refuses must not fail the others of its group: each gets a commit
      // of its own.
      if (classifyFailure(error) === "data" && group.length > 1) {
        for (const one of group) await flushGroup([one]);
      } else {
        for (const one of group) one.reject(error);
      }
      return;
    }
    await settle(group, duplicates).catch((error) => {
      // Committed, but the ids of the first ones can't be read now. A retry will return them.
      for (const one of group) one.reject(error);
    });
  }

  async function settle(group: Waiting[], duplicates: Set<string>): Promise<void> {
    metrics.eventsIngested.inc({ outcome: "stored" }, group.length - duplicates.size);
    if (duplicates.size > 0) metrics.eventsIngested.inc({ outcome: "duplicate" }, duplicates.size);
    const repeated: Waiting[] = [];
    for (const one of group) {
      if (duplicates.has(one.event.id)) repeated.push(one);
      else one.resolve({ id: one.event.id, duplicate: false });
    }
    for (const [tenantId, ones] of Map.groupBy(repeated, (one) => one.tenantId)) {
      const keys = ones.map((one) => keyOf(one.event));
      const originals = await findEventIds(sql, tenantId, keys);
      for (const one of ones) {
        one.resolve({ id: originals.get(keyOf(one.event)) ?? one.event.id, duplicate: true });
      }
    }
  }

  function enqueue(waiting: Waiting): void {
    queue.push(waiting);
    queuedBytes += sizeOf(waiting.event);
    scheduleFlush();
  }

  return {
    write(tenantId, event, receivedAtMs) {
      if (queue.length >= MAX_QUEUED_EVENTS || queuedBytes >= MAX_QUEUED_BYTES) {
        return Promise.reject(
          new AppError("unavailable", "Too many events wait to be stored; send this one again shortly."),
        );
      }
      return new Promise((resolve, reject) => {
        enqueue({ tenantId, event, receivedAtMs, resolve, reject });
      });
    },

    async writeBulk(batch, { keepKeys = false } = {}) {
      const duplicates = await track(bulkSlots.run(() => commit([{ ...batch, batchId: newId() }], keepKeys)));
      if (keepKeys && duplicates.size > 0) {
        const known = batch.events.filter(({ id }) => duplicates.has(id));
        await retryRolledBack(() => keepEventKeys(sql, batch.tenantId, known.map(keyOf)));
      }
      const inserted = batch.events.length - duplicates.size;
      metrics.eventsIngested.inc({ outcome: "stored" }, inserted);
      metrics.eventsIngested.inc({ outcome: "duplicate" }, duplicates.size);
      metrics.eventsIngested.inc({ outcome: "rejected" }, batch.rejected);
      return { inserted, duplicates: duplicates.size };
    },

    async drain() {
      while (unfinished.size > 0) await Promise.all(unfinished);
    },
  };
}

const NO_PARTITION = "23514";

/**
 * Roughly what an event takes in the queue: its free-form parts, and the rest, which the schema
 * bounds.
 */
function sizeOf(event: ParsedEvent | undefined): number {
  return 512 + (event?.properties?.length ?? 0) + (event?.context?.length ?? 0);
}

function toBatches(group: readonly Waiting[]): Batch[] {
  const batches: Batch[] = [];
  for (const [tenantId, ones] of Map.groupBy(group, (one) => one.tenantId)) {
    const receivedAtMs = ones[0]?.receivedAtMs ?? Date.now();
    const events = ones.map((one) => one.event);
    batches.push({ tenantId, batchId: newId(), receivedAtMs, received: events.length, rejected: 0, events });
  }
  return batches;
}

function* timesOf(batches: readonly Batch[]): Generator<number> {
  for (const { events } of batches) for (const { tsMs } of events) yield tsMs;
}

function toAnnouncement({ tenantId, batchId, events }: Batch) {
  let minMs: number | null = null;
  let maxMs: number | null = null;
  for (const { tsMs } of events) {
    if (minMs === null || tsMs < minMs) minMs = tsMs;
    if (maxMs === null || tsMs > maxMs) maxMs = tsMs;
  }
  return { tenantId, batchId, minMs, maxMs };
}
