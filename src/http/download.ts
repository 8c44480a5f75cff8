import { AppError } from "../core/errors.ts";
import { createCollector } from "../core/memory.ts";
import type { Log } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { setIdleTimeout } from "./idle-timeout.ts";
import { createPlaces } from "./places.ts";
import type { HttpContext } from "./router.ts";

/**
 * Files that are made while they are sent. A page is made when the client has taken the one before,
 * so a download holds one page at most. Bytes bound the pages; tenant and process bound the
 * downloads. A client that does not take a page in time is disconnected, since it holds a place
 * that others wait for.
 */
export interface Downloads {
  /**
   * Answers with the pages of a text. Rejects when the first one fails, so this is still a problem;
   * a later failure breaks the answer off visibly. Throws `overloaded` while too many are open.
   */
  send(c: HttpContext, file: DownloadFile, pages: () => AsyncIterable<string>): Promise<Response>;
}

export interface DownloadFile {
  name: string;
  mediaType: string;
}

export interface DownloadOptions {
  /** Downloads of one tenant, and of all, in this process. */
  maxPerTenant: number;
  maxPerProcess: number;
  /** How long a client may leave a page untaken. */
  stallMs: number;
  metrics: Metrics;
  log: Log;
}

const LOOK_EVERY_MS = 1_000;
const RETRY_AFTER_SECONDS = 5;
/** For the socket of a disconnected client: Bun closes it by its idle timeout only. */
const LINGER_SECONDS = 2;
const COLLECT_EVERY_BYTES = 8 * 1024 * 1024;
const encoder = new TextEncoder();

export function createDownloads(options: DownloadOptions): Downloads {
  const { maxPerTenant, maxPerProcess, stallMs, metrics, log } = options;
  const places = createPlaces({ perTenant: maxPerTenant, perProcess: maxPerProcess });
  // Of all together: many that each stop after a few pages leave as much behind.
  const collect = createCollector(COLLECT_EVERY_BYTES);
  const open = new Set<Download>();
  let timer: Timer | undefined;

  function lookAfterAll(): void {
    const nowMs = performance.now();
    for (const one of open) if (one.waitsSinceMs !== null && nowMs - one.waitsSinceMs > stallMs) one.cutOff();
  }

  function enter(download: Download): void {
    open.add(download);
    metrics.downloadsOpen.set(open.size);
    timer ??= setInterval(lookAfterAll, Math.min(LOOK_EVERY_MS, stallMs)).unref();
  }

  function leave(download: Download): void {
    open.delete(download);
    metrics.downloadsOpen.set(open.size);
    if (open.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  }

  return {
    async send(c, { name, mediaType }, pages) {
      const headers = {
        "content-type": mediaType,
        "content-disposition": `attachment; filename="${name}"`,
        "cache-control": "no-store",
      };
      // Hono answers HEAD with the GET's handler and throws the body away, without cancelling it.
      if (c.req.raw.method === "HEAD") return c.body(null, 200, headers);
      const place = places.take(c.get("principal").tenantId);
      if (typeof place === "string") {
        const whose = place === "tenant" ? "of this tenant" : "in this process";
        throw new AppError("overloaded", `Too many downloads ${whose} are open; try again shortly.`, {
          retryAfterSeconds: RETRY_AFTER_SECONDS,
        });
      }
      const iterator = pages()[Symbol.asyncIterator]();
      try {
        const first = await iterator.next();
        const download = new Download(iterator, first, {
          onSent: collect,
          onBytes: (bytes) => metrics.downloadBytes.inc(bytes),
          onEnd: () => {
            place();
            leave(download);
          },
          onFailure: (error) =>
            log.warn(
              { requestId: c.get("requestId"), file: name, error: String(error) },
              "download broken off",
            ),
          onCutOff: () => {
            metrics.downloadsCutOff.inc();
            setIdleTimeout(c, LINGER_SECONDS);
          },
        });
        enter(download);
        const { signal } = c.req.raw;
        signal.addEventListener("abort", () => download.end(), { once: true });
        if (signal.aborted) download.end();
        return c.body(download.body, 200, headers);
      } catch (error) {
        place();
        throw error;
      }
    },
  };
}

interface DownloadHooks {
  /** Bytes of a page that was made. */
  onSent(bytes: number): void;
  /** Bytes more, or less, that are made and not taken. */
  onBytes(change: number): void;
  onEnd(): void;
  /** The next page can't be had. */
  onFailure(error: unknown): void;
  onCutOff(): void;
}

class Download {
  readonly body: ReadableStream<Uint8Array>;
  /** Since when the client has not asked for more; null while we make it. */
  waitsSinceMs: number | null = performance.now();
  private controller!: ReadableStreamDefaultController<Uint8Array>;
  private untaken = 0;
  private ended = false;

  constructor(
    private readonly pages: AsyncIterator<string>,
    private next: IteratorResult<string> | null,
    private readonly hooks: DownloadHooks,
  ) {
    this.setUntaken(Buffer.byteLength(next?.value ?? ""));
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.controller = controller;
        },
        pull: () => this.pull(),
        cancel: () => this.end(),
      },
      // Nothing is made ahead of the client.
      { highWaterMark: 0 },
    );
  }

  private async pull(): Promise<void> {
    this.waitsSinceMs = null;
    this.setUntaken(0);
    try {
      let next = this.next ?? (await this.pages.next());
      this.next = null;
      // A pull that brings nothing is not repeated: the client would wait for ever.
      while (!next.done && next.value === "") next = await this.pages.next();
      if (this.ended) return;
      if (next.done) {
        this.controller.close();
        return this.end();
      }
      const bytes = encoder.encode(next.value);
      this.controller.enqueue(bytes);
      this.setUntaken(bytes.byteLength);
      this.hooks.onSent(bytes.byteLength);
      this.waitsSinceMs = performance.now();
    } catch (error) {
      if (this.ended) return;
      this.hooks.onFailure(error);
      this.breakOff();
    }
  }

  /** For a client that does not read: what it has not taken by now is given up. */
  cutOff(): void {
    if (this.ended) return;
    this.hooks.onCutOff();
    this.breakOff();
  }

  private breakOff(): void {
    this.end();
    // Bun prints an error that has a value.
    this.controller.error(undefined);
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.setUntaken(0);
    this.hooks.onEnd();
    void this.pages.return?.();
  }

  private setUntaken(bytes: number): void {
    this.hooks.onBytes(bytes - this.untaken);
    this.untaken = bytes;
  }
}
