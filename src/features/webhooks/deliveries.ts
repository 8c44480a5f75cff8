import type { Sql } from "../../db/client.ts";
import { retryRolledBack } from "../../db/failures.ts";
import { pruneAll } from "../../db/prune.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { DomainHandler } from "../outbox/index.ts";
import { type AddressGuard, ForbiddenTarget } from "./address-guard.ts";
import type { Attempt, Claim, ClaimedDelivery } from "./deliveries-repository.ts";
import * as repository from "./deliveries-repository.ts";
import { parseRetryAfter, retryDelaySeconds } from "./schedule.ts";
import { type Reply, send } from "./send.ts";
import { sign } from "./signature.ts";

export interface DeliveriesDeps {
  sql: Sql;
  guard: AddressGuard;
  metrics: Metrics;
  log: Log;
  /** For tests: a deadline other than 15 s, and certificate authorities beside the system's. */
  timeoutMs?: number;
  ca?: string;
}

export type WebhookDeliveries = ReturnType<typeof createWebhookDeliveries>;

const TIMEOUT_MS = 15_000;
/**
 * Longer than name resolution, request and recording together: a running attempt is not begun again
 * elsewhere.
 */
const LEASE_SECONDS = 60;
const GONE = 410;
const DISABLE_AFTER_SECONDS = 3 * 86_400;
/**
 * A delivery that was tried for a day. The first failure of a new message must not disable a quiet
 * endpoint.
 */
const DISABLE_BY_DELIVERY_OLDER_THAN_SECONDS = 86_400;
const KEEP_DAYS = 30;
const MAX_ERROR_LENGTH = 200;
const COUNTED_DUE = 100_000;
/** Times the 50 endpoints that a tenant may have, each with a copy of the payload. */
const EVENTS_A_STATEMENT = 25;

/**
 * Deliveries are made once and sent at least once. A worker that dies between sending and recording
 * leaves the delivery due again, with the same webhook-id, by which receivers know it.
 */
export function createWebhookDeliveries(deps: DeliveriesDeps) {
  const { sql, guard, metrics, log, timeoutMs = TIMEOUT_MS, ca } = deps;

  async function post(delivery: ClaimedDelivery, signal: AbortSignal): Promise<Reply> {
    const url = guard.parseUrl(delivery.url);
    const addresses = await guard.findAddresses(url, timeoutMs);
    const { type, timestamp, data } = delivery.payload;
    const body = JSON.stringify({ type, timestamp, data });
    const sentAt = Math.floor(Date.now() / 1_000);
    const headers = {
      "webhook-id": delivery.messageId,
      "webhook-timestamp": String(sentAt),
      "webhook-signature": sign(delivery.secrets, delivery.messageId, sentAt, body),
    };
    return send({ url, addresses, headers, body, signal, ca });
  }

  async function fail(delivery: ClaimedDelivery, attempt: Attempt, retryAfter: number | null): Promise<void> {
    const gone = attempt.status === GONE;
    const retryInSeconds = gone ? null : retryDelaySeconds(delivery.attempts, retryAfter);
    const disabled = await repository.recordFailure(sql, delivery, {
      ...attempt,
      gone,
      retryInSeconds,
      disableAfterSeconds: DISABLE_AFTER_SECONDS,
      disableByDeliveryOlderThanSeconds: DISABLE_BY_DELIVERY_OLDER_THAN_SECONDS,
    });
    metrics.webhookAttempts.inc({ outcome: retryInSeconds === null ? "gave_up" : "failed" });
    if (disabled !== null)
      log.warn({ endpointId: delivery.endpointId, reason: disabled }, "webhook disabled");
  }

  return {
    /** Domain events -> deliveries, each once however often it is asked for. */
    domainHandler: {
      consumer: "webhooks",
      atOnce: EVENTS_A_STATEMENT,
      handle: async (events) => (events.length === 0 ? 0 : repository.insertDeliveries(sql, events)),
    } satisfies DomainHandler,

    hasDue: () => repository.hasDue(sql),

    claim: (wanted: Omit<Claim, "leaseSeconds">) =>
      retryRolledBack(() => repository.claimDeliveries(sql, { ...wanted, leaseSeconds: LEASE_SECONDS })),

    /**
     * Sends once and records the outcome. If `stop` ends it, it records nothing: the lease runs out
     * and it is sent again.
     */
    async attempt(delivery: ClaimedDelivery, stop: AbortSignal): Promise<void> {
      const startedAt = performance.now();
      const signal = AbortSignal.any([stop, AbortSignal.timeout(timeoutMs)]);
      const outcome = await post(delivery, signal).catch((error: unknown) => error);
      const durationMs = Math.round(performance.now() - startedAt);
      if (!isReply(outcome)) {
        if (stop.aborted) return;
        const error = signal.aborted ? `no answer within ${timeoutMs} ms` : errorText(outcome);
        return fail(delivery, { status: null, error, durationMs }, null);
      }
      const { status, retryAfter } = outcome;
      if (status < 200 || status > 299) {
        const error = status >= 300 && status < 400 ? "redirects are not followed" : null;
        return fail(delivery, { status, error, durationMs }, parseRetryAfter(retryAfter, Date.now()));
      }
      await repository.recordSuccess(sql, delivery, { status, error: null, durationMs });
      metrics.webhookAttempts.inc({ outcome: "succeeded" });
    },

    /**
     * One round of housekeeping: ends deliveries of endpoints that are gone, and deletes old ones.
     */
    async prune(): Promise<number> {
      const ended = await pruneAll((limit) => repository.endUnwanted(sql, limit));
      return ended + (await pruneAll((limit) => repository.pruneDeliveries(sql, KEEP_DAYS, limit)));
    },

    async measureDue(): Promise<void> {
      metrics.webhooksDue.set(await repository.countDue(sql, COUNTED_DUE));
    },
  };
}

function isReply(outcome: unknown): outcome is Reply {
  return typeof (outcome as Reply).status === "number";
}

/**
 * The code of a failed connection. Other text, which the receiver may have influenced, is
 * shortened.
 */
function errorText(error: unknown): string {
  if (error instanceof ForbiddenTarget) return `The URL ${error.message}.`;
  const { code, message } = error as { code?: string; message?: string };
  return (code || message || "no connection").slice(0, MAX_ERROR_LENGTH);
}
