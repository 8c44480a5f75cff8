import { AppError } from "../core/errors.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { setIdleTimeout } from "./idle-timeout.ts";
import { createPlaces } from "./places.ts";
import type { HttpContext } from "./router.ts";

/**
 * Server-sent events (WHATWG HTML, section 9.2). A stream ends when its client has left (the
 * request's abort, the body's cancel, or a queue that nobody reads), when its credential has lost
 * or changed its rights, after MAX_AGE_MS, and when the process stops. One timer checks all
 * streams, since Bun does not report every disconnect.
 */
export interface SseStream {
  /**
   * Queues frames of createSseEncoder; false when the stream has ended. A client whose queue is
   * full is disconnected.
   */
  send(frames: Uint8Array): boolean;
  /**
   * Resolves when all that was queued is read, or the stream has ended. For a producer faster than
   * its client.
   */
  drained(): Promise<void>;
  /** Ends the stream because its source failed; the client will come again. */
  fail(error: unknown): void;
  /** Aborted when the stream has ended. */
  readonly signal: AbortSignal;
}

export interface SseStreams {
  /**
   * Answers a request with a stream. `serve` resolves when the answer may begin; what it throws
   * becomes the answer. Throws 429 and 503 above the limits, and 503 while the process stops.
   */
  open(c: HttpContext, serve: (stream: SseStream) => Promise<void>): Promise<Response>;
}

export interface SseOptions {
  /** Streams of one tenant, and of all tenants, in this process. */
  maxPerTenant: number;
  maxPerProcess: number;
  metrics: Metrics;
  log: Log;
  /** Ends every stream, and refuses new ones. */
  stopping?: AbortSignal;
}

export interface SseEvent {
  id?: string | number;
  event?: string;
  data: string;
}

type Reason = "left" | "slow" | "unauthorized" | "age" | "stopping" | "failed";

const LOOK_EVERY_MS = 1_000;
/** Below the idle timeouts of common proxies (60 s). */
const HEARTBEAT_MS = 15_000;
/** Bounds what an undetected disconnect costs, and spreads clients over processes again. */
const MAX_AGE_MS = 30 * 60_000;
/** A revoked credential must end its streams within a minute. */
const CHECK_EVERY_MS = 30_000;
/** Beside what the kernel and Bun buffer (some MB): a client that far behind does not read. */
const MAX_QUEUED_BYTES = 1024 * 1024;
/** Heartbeats alone would take hours to fill the queue of a client that stopped reading. */
const MAX_BLOCKED_MS = 60_000;
/** Clients of a process that stops must not all come again at the same moment. */
const RETRY_MS = { least: 1_000, spread: 4_000 };
const REFUSED_RETRY_SECONDS = 5;
/** For reading what is left of a stream that has ended. */
const LINGER_SECONDS = 5;

const HEADERS = {
  "content-type": "text/event-stream",
  "cache-control": "no-store, no-transform",
  // nginx would hold the events back.
  "x-accel-buffering": "no",
};
const encoder = new TextEncoder();
const HEARTBEAT = encoder.encode(":\n\n");

/** `data` may have several lines. */
function encodeSse(events: readonly SseEvent[]): Uint8Array {
  let text = "";
  for (const { id, event, data } of events) {
    if (id !== undefined) text += `id: ${id}\n`;
    if (event !== undefined) text += `event: ${event}\n`;
    text += `data: ${data.replaceAll("\n", "\ndata: ")}\n\n`;
  }
  return encoder.encode(text);
}

/** Makes frames for SseStream.send, of what many clients get once for all of them. */
export function createSseEncoder<T extends object>(
  eventsOf: (source: T) => readonly SseEvent[],
): (source: T) => Uint8Array {
  const encoded = new WeakMap<T, Uint8Array>();
  return (source) => {
    const frames = encoded.get(source) ?? encodeSse(eventsOf(source));
    encoded.set(source, frames);
    return frames;
  };
}

export function createSseStreams(options: SseOptions): SseStreams {
  const { metrics, log, stopping } = options;
  const open = new Set<OpenStream>();
  const places = createPlaces({ perTenant: options.maxPerTenant, perProcess: options.maxPerProcess });
  let timer: Timer | undefined;

  stopping?.addEventListener("abort", () => {
    for (const stream of open) stream.end("stopping");
  });

  /** Returns how to give the place back. */
  function admit(tenantId: string): () => void {
    const retryAfterSeconds = REFUSED_RETRY_SECONDS;
    const place = stopping?.aborted ? "process" : places.take(tenantId);
    if (place === "process")
      throw new AppError("unavailable", "This process takes no more streams.", { retryAfterSeconds });
    if (place === "tenant")
      throw new AppError("rate_limited", `More than ${options.maxPerTenant} streams are open.`, {
        retryAfterSeconds,
      });
    return place;
  }

  function enter(stream: OpenStream): void {
    open.add(stream);
    metrics.streamsOpen.set(open.size);
    timer ??= setInterval(() => {
      const nowMs = Date.now();
      for (const one of open) one.look(nowMs);
    }, LOOK_EVERY_MS);
  }

  function leave(stream: OpenStream, reason: Reason): void {
    open.delete(stream);
    metrics.streamsOpen.set(open.size);
    metrics.streamsClosed.inc({ reason });
    if (open.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  }

  return {
    async open(c, serve) {
      // Hono answers HEAD with the GET's handler and throws the body away, without cancelling it.
      if (c.req.raw.method === "HEAD") return c.body(null, 200, HEADERS);
      const givePlaceBack = admit(c.get("principal").tenantId);
      const stream = new OpenStream({
        isStillAllowed: () => isStillAllowed(c, log),
        onEnd: (ended, reason) => {
          givePlaceBack();
          leave(ended, reason);
          // Bun learns of the end when the client reads on. A client that does not would keep its
          // socket for ever.
          if (reason !== "left") setIdleTimeout(c, LINGER_SECONDS);
        },
        onFailure: (error) => log.warn({ error: String(error) }, "event stream broken off"),
      });
      enter(stream);
      const { signal } = c.req.raw;
      signal.addEventListener("abort", () => stream.end("left"), { once: true });
      try {
        await serve(stream);
        if (signal.aborted) stream.end("left");
      } catch (error) {
        stream.end("failed");
        throw error;
      }
      // Bun would close a request that is answered for longer than its idle timeout.
      if (!stream.signal.aborted) setIdleTimeout(c, 0);
      return c.body(stream.body, 200, HEADERS);
    },
  };
}

interface StreamHooks {
  isStillAllowed(): Promise<boolean>;
  onEnd(stream: OpenStream, reason: Reason): void;
  onFailure(error: unknown): void;
}

class OpenStream implements SseStream {
  readonly body: ReadableStream<Uint8Array>;
  private readonly ended = new AbortController();
  private controller!: ReadableStreamDefaultController<Uint8Array>;
  private waiting: (() => void)[] = [];
  private blockedSinceMs: number | null = null;
  private heartbeatAtMs = Date.now() + HEARTBEAT_MS;
  // Spread, so that streams that began together are not checked, and don't end, together.
  private checkAtMs = Date.now() + CHECK_EVERY_MS * (0.5 + Math.random() / 2);
  private readonly endAtMs = Date.now() + MAX_AGE_MS * (0.9 + Math.random() / 10);

  constructor(private readonly hooks: StreamHooks) {
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.controller = controller;
          const retryMs = RETRY_MS.least + Math.floor(Math.random() * RETRY_MS.spread);
          controller.enqueue(encoder.encode(`retry: ${retryMs}\n\n`));
        },
        pull: () => {
          if (this.queuedBytes() > 0) return;
          this.blockedSinceMs = null;
          this.resume();
        },
        cancel: () => this.end("left"),
      },
      { highWaterMark: MAX_QUEUED_BYTES, size: (chunk) => chunk?.byteLength ?? 0 },
    );
  }

  get signal(): AbortSignal {
    return this.ended.signal;
  }

  send(frames: Uint8Array): boolean {
    if (this.signal.aborted) return false;
    const queued = this.queuedBytes();
    // One event may be larger than the queue, several may not.
    if (queued > 0 && queued + frames.byteLength > MAX_QUEUED_BYTES) {
      this.end("slow");
      return false;
    }
    this.controller.enqueue(frames);
    this.heartbeatAtMs = Date.now() + HEARTBEAT_MS;
    return true;
  }

  async drained(): Promise<void> {
    while (!this.signal.aborted && this.queuedBytes() > 0)
      await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  fail(error: unknown): void {
    if (!this.signal.aborted) this.hooks.onFailure(error);
    this.end("failed");
  }

  look(nowMs: number): void {
    if (this.queuedBytes() === 0) this.blockedSinceMs = null;
    else this.blockedSinceMs ??= nowMs;
    if (this.blockedSinceMs !== null && nowMs - this.blockedSinceMs > MAX_BLOCKED_MS) this.end("slow");
    else if (nowMs >= this.endAtMs) this.end("age");
    else if (nowMs >= this.heartbeatAtMs) this.send(HEARTBEAT);
    if (this.signal.aborted || nowMs < this.checkAtMs) return;
    this.checkAtMs = nowMs + CHECK_EVERY_MS;
    void this.hooks.isStillAllowed().then((allowed) => allowed || this.end("unauthorized"));
  }

  end(reason: Reason): void {
    if (this.signal.aborted) return;
    this.ended.abort();
    this.hooks.onEnd(this, reason);
    this.resume();
    try {
      // What a slow client has not read by now is dropped. Bun prints an error that has a value.
      if (reason === "slow") this.controller.error(undefined);
      else this.controller.close();
    } catch {
      // Cancelled or closed from the other side already.
    }
  }

  private queuedBytes(): number {
    return MAX_QUEUED_BYTES - (this.controller.desiredSize ?? MAX_QUEUED_BYTES);
  }

  private resume(): void {
    const resumed = this.waiting;
    this.waiting = [];
    for (const resolve of resumed) resolve();
  }
}

/**
 * False when the credential is no longer valid or has other rights. A database that is away changes
 * nothing.
 */
async function isStillAllowed(c: HttpContext, log: Log): Promise<boolean> {
  try {
    const principal = await c.get("authenticate")();
    return JSON.stringify(principal) === JSON.stringify(c.get("principal"));
  } catch (error) {
    if (error instanceof AppError && error.status < 500) return false;
    log.debug({ error: String(error) }, "credential of an event stream not checked");
    return true;
  }
}
