import type { Redis } from "ioredis";
import { waitUntilReady } from "../redis/client.ts";
import type { Log } from "../telemetry/log.ts";
import type { StreamTopology } from "./topology.ts";

/**
 * A member of a consumer group. It reads new messages, takes over pending entries of silent
 * consumers (XAUTOCLAIM), and acknowledges what `handle` has finished. After Redis was wiped it
 * makes the group again at 0. On a stream with one group, acknowledged entries are deleted, so the
 * stream's length is the backlog.
 */
export interface StreamMessage {
  id: string;
  fields: Record<string, string>;
}

export interface ConsumerOptions {
  topology: StreamTopology;
  /** Unique among the members that live at the same time. */
  name: string;
  /** Messages handled together at the most. */
  batchSize: number;
  blockMs: number;
  /** A pending entry untouched for this long belongs to a dead consumer. */
  minIdleMs: number;
  reclaimEveryMs: number;
  /**
   * A member that has not asked for this long and has nothing pending is dead and is removed:
   * otherwise every crash would leave one behind. If it lives after all, its next read makes it
   * again.
   */
  abandonedAfterMs?: number;
  /** Finished when it resolves; a rejection leaves the messages pending, to be reclaimed. */
  handle(messages: StreamMessage[]): Promise<void>;
}

export interface StreamConsumer {
  start(): void;
  stop(): Promise<void>;
  /**
   * One read (or reclaim) and its handling; returns how many messages were handled. Does not block
   * when told so.
   */
  runOnce(options?: { block: boolean }): Promise<number>;
}

const RETRY_DELAY_MS = 250;
const CONNECT_WAIT_MS = 2_000;
const ABANDONED_AFTER_MS = 60_000;

type RawEntry = [id: string, fields: string[] | null];

export function createConsumer(blocking: Redis, options: ConsumerOptions, log: Log): StreamConsumer {
  const { key, group } = options.topology;
  const { abandonedAfterMs = ABANDONED_AFTER_MS } = options;
  let running = false;
  let reading = false;
  let loop: Promise<void> = Promise.resolve();
  let lastReclaimAt = 0;
  let reclaimCursor = "0-0";
  let lastError: string | null = null;
  let clientId: number | null = null;
  blocking.on("ready", async () => {
    clientId = await blocking.client("ID").catch(() => null);
  });

  async function ensureGroup(): Promise<void> {
    try {
      await blocking.xgroup("CREATE", key, group, "0", "MKSTREAM");
    } catch (error) {
      if (!String(error).includes("BUSYGROUP")) throw error;
    }
  }

  async function reclaim(): Promise<StreamMessage[]> {
    lastReclaimAt = Date.now();
    const reply = (await blocking.xautoclaim(
      key,
      group,
      options.name,
      options.minIdleMs,
      reclaimCursor,
      "COUNT",
      options.batchSize,
    )) as [string, RawEntry[]];
    reclaimCursor = reply[0];
    if (reclaimCursor !== "0-0") lastReclaimAt = 0;
    await removeAbandonedConsumers();
    return toMessages(reply[1]);
  }

  async function removeAbandonedConsumers(): Promise<void> {
    const members = (await blocking.xinfo("CONSUMERS", key, group)) as (string | number)[][];
    for (const member of members) {
      const info = Object.fromEntries(pairs(member));
      const abandoned = Number(info.pending) === 0 && Number(info.idle) > abandonedAfterMs;
      if (abandoned && info.name !== options.name)
        await blocking.xgroup("DELCONSUMER", key, group, String(info.name));
    }
  }

  async function readNew(block: boolean): Promise<StreamMessage[]> {
    const { batchSize, blockMs, name } = options;
    const reply = (
      block
        ? await blocking.xreadgroup(
            "GROUP",
            group,
            name,
            "COUNT",
            batchSize,
            "BLOCK",
            blockMs,
            "STREAMS",
            key,
            ">",
          )
        : await blocking.xreadgroup("GROUP", group, name, "COUNT", batchSize, "STREAMS", key, ">")
    ) as [string, RawEntry[]][] | null;
    return toMessages(reply?.[0]?.[1] ?? []);
  }

  async function runOnce({ block } = { block: true }): Promise<number> {
    try {
      let messages = Date.now() - lastReclaimAt >= options.reclaimEveryMs ? await reclaim() : [];
      if (messages.length === 0) {
        reading = true;
        messages = await readNew(block).finally(() => {
          reading = false;
        });
      }
      if (messages.length === 0) return 0;
      await options.handle(messages);
      const ids = messages.map((message) => message.id);
      // Deleted first: a crash in between leaves a pending id without an entry, which XAUTOCLAIM
      // drops. The other way round, an entry would stay in the stream and the sweeper would wait
      // for it. No MULTI: a full Redis refuses even to queue these.
      const pipeline = blocking.pipeline();
      if (!options.topology.shared) pipeline.xdel(key, ...ids);
      const replies = await pipeline.xack(key, group, ...ids).exec();
      for (const [error] of replies ?? []) if (error) throw error;
      return messages.length;
    } catch (error) {
      // A wiped Redis has no group, and unblocks its waiting readers with an error of its own.
      if (!/NOGROUP|UNBLOCKED|no longer exists/.test(String(error))) throw error;
      await ensureGroup();
      return 0;
    }
  }

  async function run(): Promise<void> {
    await waitUntilReady(blocking, CONNECT_WAIT_MS);
    while (running) {
      try {
        await runOnce();
        lastError = null;
      } catch (error) {
        if (!running) return;
        // Once an outage: the same line four times a second tells nobody more.
        const level = String(error) === lastError ? "debug" : "warn";
        lastError = String(error);
        log[level]({ stream: key, error: lastError }, "stream read or handling failed, trying again");
        // Without this, a read that timed out would keep its place in the connection's reply queue.
        if (String(error).includes("timed out")) blocking.disconnect(true);
        await Bun.sleep(RETRY_DELAY_MS);
      }
    }
  }

  return {
    start() {
      running = true;
      loop = run();
    },
    async stop() {
      if (!running) return;
      running = false;
      // A running handling finishes and is acknowledged; a waiting read is ended at once.
      await endRead();
      await loop;
      await leaveGroup();
      blocking.disconnect();
    },
    runOnce,
  };

  function openSide(): Redis {
    const side = blocking.duplicate({ enableOfflineQueue: true, commandTimeout: 1_000 });
    // The connection that it copies logs that Redis is away. Without a listener ioredis prints a
    // stack.
    side.on("error", () => {});
    return side;
  }

  /**
   * Asks Redis to end the wait. Closing the connection would leave pending what Redis delivers at
   * that moment.
   */
  async function endRead(): Promise<void> {
    const side = openSide();
    try {
      // More than once: the first may overtake the read.
      const deadline = Date.now() + options.blockMs;
      for (; reading && clientId !== null && Date.now() < deadline; await Bun.sleep(5))
        await side.client("UNBLOCK", clientId);
    } catch (error) {
      log.debug({ error: String(error) }, "could not end the waiting read");
    } finally {
      side.disconnect();
    }
    if (reading) blocking.disconnect();
  }

  /**
   * Takes this member out of the group if nothing is pending for it; otherwise its entries must
   * stay known.
   */
  async function leaveGroup(): Promise<void> {
    const side = openSide();
    try {
      const pending = (await side.xpending(key, group, "-", "+", 1, options.name)) as unknown[];
      if (pending.length === 0) await side.xgroup("DELCONSUMER", key, group, options.name);
    } catch (error) {
      log.debug({ error: String(error) }, "could not leave the consumer group");
    } finally {
      side.disconnect();
    }
  }
}

function toMessages(entries: readonly (RawEntry | null)[]): StreamMessage[] {
  // An entry that was trimmed while pending comes back without fields. Postgres still knows its
  // batch.
  return entries.flatMap((entry) =>
    entry?.[1] ? [{ id: entry[0], fields: Object.fromEntries(pairs(entry[1])) }] : [],
  );
}

function pairs<T>(flat: readonly T[]): [string, T][] {
  const result: [string, T][] = [];
  for (let i = 0; i + 1 < flat.length; i += 2) result.push([String(flat[i]), flat[i + 1] as T]);
  return result;
}
