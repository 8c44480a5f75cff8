import type { Invalidator } from "../../cache/invalidator.ts";
import type { DomainConsumer } from "../../core/domain-events.ts";
import type { Sql } from "../../db/client.ts";
import { retryRolledBack } from "../../db/failures.ts";
import { isolatePoison } from "../../db/isolate-poison.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { tagsOf } from "./cache-tags.ts";
import type { EventRef } from "./repository.ts";
import {
  buryEvent,
  deleteFailure,
  type FailedEvent,
  recordFailure,
  selectRetries,
  selectWaiting,
  type WaitingEvent,
} from "./waiting-repository.ts";

/** What a consumer does with domain events. */
export interface DomainHandler {
  consumer: DomainConsumer;
  /** Events of one statement at the most. */
  atOnce: number;
  /**
   * One statement that begins with `claimFor` these events, which are in their order; how many
   * effects it had.
   */
  handle(events: readonly EventRef[]): Promise<number>;
}

export interface HandledWaiting {
  effects: number;
  /** Of each tenant that has more, an event: to be announced again. */
  left: EventRef[];
}

export interface HandleWaitingDeps {
  sql: Sql;
  invalidator: Invalidator;
  metrics: Metrics;
  log: Log;
}

export type HandleWaiting = (tenantIds: readonly string[], handler: DomainHandler) => Promise<HandledWaiting>;

/** Of all tenants that were announced together. */
const LOOKED_AT = 500;
/**
 * After this time other tenants have their turn. Far below the time after which messages are
 * reclaimed.
 */
const BUDGET_MS = 1_000;
/** Before an event is given up: 40 minutes in all. */
const RETRY_DELAYS_SECONDS = [10, 20, 40, 80, 160, 320, 600, 600, 600];
const MAX_ERROR_LENGTH = 1_000;

/**
 * Handles what waits for a consumer in these tenants, each tenant's events in their order. An
 * announcement names a tenant and not an event: the consumer reads all that was committed before,
 * so a later event can't overtake an earlier one (docs/domain-events.md). An event that can't be
 * handled holds up those of its subject for RETRY_DELAYS_SECONDS. Throws when Postgres can't be
 * reached, or not in time.
 */
export function createHandleWaiting({ sql, invalidator, metrics, log }: HandleWaitingDeps): HandleWaiting {
  async function fail(consumer: DomainConsumer, event: FailedEvent, error: unknown): Promise<void> {
    const message = (error instanceof Error ? error.message : String(error)).slice(0, MAX_ERROR_LENGTH);
    const retryInSeconds = RETRY_DELAYS_SECONDS[event.attempts];
    const { tenantId, id, subjectId } = event;
    const about = { consumer, tenantId, id, subjectId, attempts: event.attempts + 1, error: message };
    if (retryInSeconds !== undefined) {
      await recordFailure(sql, consumer, event, { error: message, retryInSeconds });
      log.error(about, "domain event not handled, tried again later");
    } else if (await buryEvent(sql, consumer, event, message)) {
      metrics.domainEventsGivenUp.inc({ consumer });
      log.error(about, "domain event given up");
    }
  }

  /** Those that failed before: each by itself, or it would take others down again. */
  async function retry(tenantIds: readonly string[], { consumer, handle }: DomainHandler): Promise<number> {
    let effects = 0;
    for (const event of await selectRetries(sql, consumer, tenantIds, LOOKED_AT)) {
      const done = await isolatePoison([event], handle, (one, error) => fail(consumer, one, error));
      for (const count of done) effects += count;
      if (done.length > 0) await deleteFailure(sql, consumer, event);
    }
    return effects;
  }

  /**
   * The process of the change deleted its tags, unless it died in that moment or had lost Redis.
   * Otherwise the relay did, unless this consumer comes before it.
   */
  async function invalidateAgain(events: readonly WaitingEvent[]): Promise<void> {
    const overtaken = events.filter(({ announced }) => !announced);
    for (const [tenantId, own] of Map.groupBy(overtaken, (event) => event.tenantId))
      await invalidator.invalidateTags(tenantId, own.flatMap(tagsOf));
  }

  /** Of a tenant with an event that can't be handled, later events are left to the next read. */
  async function handleInOrder(events: readonly WaitingEvent[], handler: DomainHandler) {
    const { consumer, atOnce, handle } = handler;
    const held = new Set<string>();
    const interrupted = new Set<string>();
    const nameOf = ({ tenantId, subjectId }: WaitingEvent) => `${tenantId} ${subjectId}`;
    let effects = 0;
    for (let first = 0; first < events.length; first += atOnce) {
      const some = events.slice(first, first + atOnce).filter(({ tenantId }) => !interrupted.has(tenantId));
      const counts = await isolatePoison(
        some,
        (few) => handle(few.filter((event) => !held.has(nameOf(event)))),
        async (event, error) => {
          held.add(nameOf(event));
          interrupted.add(event.tenantId);
          await fail(consumer, { ...event, attempts: 0 }, error);
        },
      );
      for (const count of counts) effects += count;
    }
    return { effects, interrupted };
  }

  return async (tenantIds, handler) => {
    let effects = await retry(tenantIds, handler);
    let tenants = new Set(tenantIds);
    const left = new Map<string, EventRef>();
    for (const deadline = performance.now() + BUDGET_MS; tenants.size > 0; ) {
      const each = Math.ceil(LOOKED_AT / tenants.size);
      const events = await retryRolledBack(() => selectWaiting(sql, handler.consumer, [...tenants], each));
      await invalidateAgain(events);
      const { effects: own, interrupted } = await handleInOrder(events, handler);
      effects += own;
      // A tenant whose page was full may have more. Of the others, all that was committed when they
      // were announced is done.
      const pages = Map.groupBy(events, (event) => event.tenantId);
      const goesOn = ([tenantId, page]: [string, WaitingEvent[]]) =>
        page.length === each || interrupted.has(tenantId);
      tenants = new Set([...pages].filter(goesOn).map(([tenantId]) => tenantId));
      if (performance.now() < deadline) continue;
      for (const tenantId of tenants) {
        const last = pages.get(tenantId)?.at(-1);
        if (last) left.set(tenantId, { tenantId, id: last.id });
      }
      break;
    }
    return { effects, left: [...left.values()] };
  };
}
