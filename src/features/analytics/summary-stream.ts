import { AppError, ERRORS } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import { appErrorOf } from "../../db/failures.ts";
import type { Answer } from "./answers.ts";
import type { SummaryStreamQuery } from "./schema.ts";

/**
 * `unavailable`: there is no answer right now, neither fresh nor stale. The next summary ends that.
 */
export type SummaryEvent =
  | { event: "summary"; data: object }
  | { event: "unavailable"; data: { code: string; detail: string } };

/** What is needed of a client's connection. */
export interface SummaryClient {
  deliver(event: SummaryEvent): void;
  /** Resolves when the client has read most of what it was sent, or has left. */
  drained(): Promise<void>;
  fail(error: unknown): void;
  signal: AbortSignal;
}

export interface SummaryPace {
  /** How often the answer is checked for a change. */
  lookEveryMs: number;
  /** After so long the same answer is sent again, with what `meta` says by now. */
  sendEveryMs: number;
}

const PACE: SummaryPace = { lookEveryMs: 1_000, sendEveryMs: 5_000 };
/** Each costs a read a second for half an hour, and rate limits count requests only. */
const MAX_WATCHES_PER_TENANT = 100;
const RETRY_AFTER_SECONDS = 5;

type ReadSummary = (ctx: RequestContext, query: SummaryStreamQuery) => Promise<Answer<object>>;

interface Seen {
  event: SummaryEvent;
  /** The same for answers that differ in `meta` only, which moves with every look. */
  fingerprint: string;
}

interface Follower {
  client: SummaryClient;
  sent: string;
  sendAtMs: number;
  /** It has not read what it was sent. When it has, it gets the newest answer only. */
  behind: boolean;
}

/**
 * A watch reads one summary of a tenant through the tag cache, as one polling client would, for all
 * who follow it on this process. Every follower is sent what differs from what it was sent last.
 * Reading an unchanged summary costs an MGET. The cache shares computed answers with other
 * processes.
 */
export function createSummaryStream(
  getSummary: ReadSummary,
  { lookEveryMs, sendEveryMs }: SummaryPace = PACE,
) {
  /** By tenant, and by everything that changes the answer. */
  const watches = new Map<string, Map<string, Set<Follower>>>();

  function tell(follower: Follower, { event, fingerprint }: Seen): void {
    if (follower.behind || (fingerprint === follower.sent && Date.now() < follower.sendAtMs)) return;
    follower.client.deliver(event);
    follower.sent = fingerprint;
    follower.sendAtMs = Date.now() + sendEveryMs;
    follower.behind = true;
    void follower.client.drained().then(() => {
      follower.behind = false;
    });
  }

  async function watch(ctx: RequestContext, query: SummaryStreamQuery, followers: Set<Follower>) {
    for (;;) {
      await Bun.sleep(lookEveryMs);
      if (followers.size === 0) return;
      const seen = await look(getSummary, ctx, query).catch(unavailable);
      for (const follower of followers) tell(follower, seen);
    }
  }

  function join(ctx: RequestContext, query: SummaryStreamQuery, follower: Follower): void {
    const { tenantId, priority } = ctx;
    const { signal } = follower.client;
    if (signal.aborted) return;
    const own = watches.get(tenantId) ?? new Map<string, Set<Follower>>();
    const name = JSON.stringify([priority, query]);
    const known = own.get(name);
    if (!known && own.size >= MAX_WATCHES_PER_TENANT) throw tooMany();
    const followers = known ?? new Set();
    followers.add(follower);
    watches.set(tenantId, own.set(name, followers));
    signal.addEventListener("abort", () => {
      followers.delete(follower);
      if (followers.size > 0 || own.get(name) !== followers) return;
      own.delete(name);
      if (own.size === 0) watches.delete(tenantId);
    });
    if (known) return;
    watch(ctx, query, followers).catch((error: unknown) => {
      for (const { client } of followers) client.fail(error);
    });
  }

  /**
   * Resolves when the first summary is sent. Throws what `getSummary` throws, and `rate_limited`.
   */
  return async function followSummary(
    ctx: RequestContext,
    query: SummaryStreamQuery,
    client: SummaryClient,
  ): Promise<void> {
    // The first read is the client's own, not the watch's: it is refused, and answered, as GET
    // /analytics/summary would be.
    const first = await look(getSummary, ctx, query);
    const follower = { client, sent: "", sendAtMs: 0, behind: false };
    join(ctx, query, follower);
    tell(follower, first);
  };
}

async function look(getSummary: ReadSummary, ctx: RequestContext, query: SummaryStreamQuery): Promise<Seen> {
  const summary = await getSummary(ctx, query);
  const event = {
    event: "summary" as const,
    get data() {
      return summary.value;
    },
  };
  return { event, fingerprint: summary.content.hash };
}

/** Throws what does not pass by itself. */
function unavailable(error: unknown): Seen {
  const known = error instanceof AppError ? error : appErrorOf(error);
  if (!known || !ERRORS[known.code].retryable) throw error;
  const { code, message: detail } = known;
  return { event: { event: "unavailable", data: { code, detail } }, fingerprint: code };
}

function tooMany(): AppError {
  const detail = `More than ${MAX_WATCHES_PER_TENANT} different summaries are being followed.`;
  return new AppError("rate_limited", detail, { retryAfterSeconds: RETRY_AFTER_SECONDS });
}
