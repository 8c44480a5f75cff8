import type { Invalidator } from "../../cache/invalidator.ts";
import { ORDERS_TAG, orderTag, PRODUCTS_TAG, productTag } from "../../cache/tags.ts";
import { createSemaphore } from "../../core/semaphore.ts";
import type { Database } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import type { EventPartitions } from "../../db/partitions.ts";
import type { Transaction } from "../../db/transaction.ts";
import type { Announcer } from "../../streams/producer.ts";
import type { Log } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { insertDomainEvents } from "../outbox/index.ts";
import { lockShelves, moveStock } from "../products/index.ts";
import { type Command, decide, type Effects } from "./decide.ts";
import * as repository from "./handling-repository.ts";
import { type SalesBatch, writeSales } from "./sales.ts";

export interface HandlingDeps {
  db: Database;
  partitions: EventPartitions;
  announcer: Announcer;
  invalidator: Invalidator;
  log: Log;
  metrics: Metrics;
}

export type OrderHandling = ReturnType<typeof createOrderHandling>;

/** A failed command is tried again after these; after the last one it is a dead letter. */
const RETRY_DELAYS_SECONDS = [1, 5, 15];
/**
 * One transaction's share: large enough to spread its round trips, small enough to lock stock rows
 * briefly.
 */
const COMMANDS_A_TRANSACTION = 200;
/**
 * A group that keeps receiving commands gives way to others after so many rounds. The sweeper finds
 * what is left.
 */
const MAX_ROUNDS = 50;
const MAX_ERROR_LENGTH = 1_000;
/**
 * A sale locks a product for milliseconds. A longer lock is an admin's or an import's, and others
 * must not wait for it.
 */
const SHELF_LOCK_TIMEOUT = "500ms";
const LOCK_TIMEOUT = "2s";
const STATEMENT_TIMEOUT = "5s";
/** What one tenant may take of a batch before the next one has its turn. */
const BUDGET_MS = 5_000;
/**
 * A tenant whose rows are locked must not delay all others. The pool has connections for so many.
 */
const TENANTS_AT_ONCE = 2;
/** As many groups as a transaction takes commands, so that each group can have one. */
const GROUPS_AT_ONCE = COMMANDS_A_TRANSACTION;
const PUT_OFF_MS = 1_000;

interface Attempt {
  commands: (Command & { tenantId: string })[];
}

/** One call of `handle`. */
interface Run {
  tenantId: string;
  by: string;
  /**
   * Halved when a lone group fails, so that a poisonous command deep in it does not fail it again
   * at full size.
   */
  perGroup: number;
  /** No further transaction is begun; what is left stays due. */
  untilMs: number;
}

interface Round {
  commands: Command[];
  effects: Effects;
  batch: SalesBatch | null;
  /** Groups whose first command failed before and is due: each gets a transaction of its own. */
  retries: string[];
}

/**
 * Handles commands (G5, G6): many groups in one transaction, in which their commands are locked,
 * decided and marked done together with all their effects. A failure is narrowed down by halving to
 * a single command, which is retried later and holds up its own group only.
 */
export function createOrderHandling(deps: HandlingDeps) {
  const { db, partitions, announcer, invalidator, log, metrics } = deps;
  const underWay = new Set<Attempt>();

  /**
   * One transaction; nothing of it is visible before it commits. Records in `attempt` what it has
   * taken.
   */
  function runTransaction(
    { tenantId, by }: Run,
    groupIds: readonly string[],
    perGroup: number,
    attempt: Attempt,
  ): Promise<Round> {
    return db.transaction(async (tx) => {
      const [, claimed] = await Promise.all([
        tx`select set_config('lock_timeout', ${SHELF_LOCK_TIMEOUT}, true),
          set_config('statement_timeout', ${STATEMENT_TIMEOUT}, true)`,
        repository.claimCommands(tx, tenantId, groupIds, perGroup),
      ]);
      const retries = claimed
        .filter(({ attempts, ready }) => attempts > 0 && ready)
        .map((one) => one.groupId);
      const alone = groupIds.length === 1 && perGroup === 1;
      // What failed before would take the others down again.
      const blocked = new Set(
        claimed.filter(({ attempts, ready }) => !ready || (attempts > 0 && !alone)).map((one) => one.groupId),
      );
      const commands = claimed.filter(({ groupId }) => !blocked.has(groupId));
      const nowMs = Date.now();
      attempt.commands = commands.map((command) => ({ ...command, tenantId }));
      const effects = await decideAll(tx, tenantId, commands);
      if (commands.length === 0) return { commands, effects, batch: null, retries };
      const [, batch] = await Promise.all([
        tx`select set_config('lock_timeout', ${LOCK_TIMEOUT}, true)`,
        writeSales(tx, tenantId, nowMs, effects.sales),
        moveStock(tx, tenantId, effects.stock),
        insertDomainEvents(tx, tenantId, effects.events),
        repository.writeOutcomes(tx, tenantId, effects, { at: new Date(nowMs).toISOString(), by }),
      ]);
      return { commands, effects, batch, retries: alone ? [] : retries };
    });
  }

  async function decideAll(tx: Transaction, tenantId: string, commands: Command[]): Promise<Effects> {
    const orderIds = [...new Set(commands.map((command) => command.orderId))];
    const orders = orderIds.length === 0 ? new Map() : await repository.readOrders(tx, tenantId, orderIds);
    const moving = commands.filter(({ toStatus }) => toStatus === "pending" || toStatus === "cancelled");
    const productIds = new Set<string>();
    for (const { orderId } of moving)
      for (const { productId } of orders.get(orderId)?.items ?? []) productIds.add(productId);
    const shelves = await lockShelves(tx, tenantId, [...productIds].sort());
    return decide(commands, orders, shelves);
  }

  /**
   * Cache tags are deleted after the commit. The announcement of the sales comes last: the sweeper
   * would find them anyway.
   */
  async function publish(tenantId: string, { effects, commands, batch }: Round): Promise<void> {
    for (const { outcome } of effects.outcomes) metrics.orderCommands.inc({ outcome });
    const tags = new Set([ORDERS_TAG, ...commands.map((command) => orderTag(command.orderId))]);
    if (effects.stock.size > 0) tags.add(PRODUCTS_TAG);
    for (const productId of effects.stock.keys()) tags.add(productTag(productId));
    await invalidator.invalidateTags(tenantId, [...tags]);
    if (batch) await announcer.announce([batch]);
  }

  /** One pass over the groups; returns how many commands were handled, or failed. */
  async function pass(run: Run, groupIds: string[], perGroup: number): Promise<number> {
    if (Date.now() > run.untilMs) return 0;
    const { tenantId } = run;
    const attempt: Attempt = { commands: [] };
    const stopTimer = metrics.orderTransactionDuration.startTimer();
    underWay.add(attempt);
    let round: Round;
    try {
      round = await runTransaction(run, groupIds, perGroup, attempt);
    } catch (error) {
      return await recover(run, groupIds, perGroup, attempt.commands, error);
    } finally {
      underWay.delete(attempt);
      stopTimer();
    }
    if (round.commands.length > 0) await publish(tenantId, round);
    let handled = round.commands.length;
    for (const groupId of round.retries) handled += await pass(run, [groupId], 1);
    return handled;
  }

  /**
   * Halves what failed together, down to the one command that failed. A lock says nothing against
   * any of them.
   */
  async function recover(
    run: Run,
    groupIds: string[],
    perGroup: number,
    commands: readonly Command[],
    error: unknown,
  ): Promise<number> {
    const kind = classifyFailure(error);
    const lone = groupIds.length === 1 && perGroup === 1;
    if (kind === "locked" || (kind === "timeout" && (lone || Date.now() > run.untilMs))) {
      await putOff(run, commands, error);
      return 0;
    }
    const [head] = commands;
    if (kind === "unavailable" || kind === "retry" || !head) throw error;
    if (lone) {
      await noteFailure(run.tenantId, head, error);
      return 1;
    }
    if (groupIds.length === 1) {
      const half = Math.ceil(Math.min(perGroup, commands.length) / 2);
      run.perGroup = half;
      return pass(run, groupIds, half);
    }
    const middle = Math.ceil(groupIds.length / 2);
    const first = await pass(run, groupIds.slice(0, middle), perGroup);
    return first + (await pass(run, groupIds.slice(middle), perGroup));
  }

  /**
   * Leaves these groups to the sweeper, counts no try, and ends the run: the tenant's next
   * transaction may wait for the same lock. Each comes due at its own time, so that groups which
   * need nothing locked don't meet it again.
   */
  async function putOff(run: Run, commands: readonly Command[], error: unknown): Promise<void> {
    run.untilMs = 0;
    const heads = [...Map.groupBy(commands, (command) => command.groupId).values()].flatMap(([head]) =>
      head ? [{ ...head, delayMs: PUT_OFF_MS * (1 + Math.random()) }] : [],
    );
    await repository.postpone(db.write, run.tenantId, heads);
    log.warn(
      { tenantId: run.tenantId, groups: heads.length, error: String(error) },
      "order commands wait for a lock, or take too long; tried again later",
    );
  }

  async function noteFailure(tenantId: string, command: Command, error: unknown): Promise<void> {
    const message = (error instanceof Error ? error.message : String(error)).slice(0, MAX_ERROR_LENGTH);
    const dead = await repository.recordFailure(db.write, tenantId, command, message, RETRY_DELAYS_SECONDS);
    metrics.orderCommandFailures.inc();
    const { id, orderId, attempts } = command;
    log.error(
      { tenantId, messageId: id, orderId, attempts: attempts + 1, error: message, dead },
      dead ? "order command dead-lettered" : "order command failed, tried again later",
    );
  }

  /**
   * Handles what waits in these groups of one tenant, until nothing is due. It checks again after
   * every commit: a command that came meanwhile was announced to a worker that found the group
   * locked by this one. Groups that others hold are left to them. Throws when Postgres can't be
   * reached.
   */
  async function handle(tenantId: string, groupIds: readonly string[], by: string): Promise<number> {
    await partitions.ensure([Date.now()]);
    let handled = 0;
    const groups = [...new Set(groupIds)];
    const perGroup = Math.max(1, Math.floor(COMMANDS_A_TRANSACTION / groups.length));
    const run: Run = { tenantId, by, perGroup, untilMs: Date.now() + BUDGET_MS };
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const done = await pass(run, groups, run.perGroup);
      if (done === 0) break;
      handled += done;
    }
    return handled;
  }

  return {
    /** Commands under way in this process, by tenant. */
    inFlight(): Record<string, number> {
      const counts: Record<string, number> = {};
      for (const { commands } of underWay)
        for (const { tenantId } of commands) counts[tenantId] = (counts[tenantId] ?? 0) + 1;
      return counts;
    },

    handle,

    /**
     * Groups of any tenants. A tenant's locks and failures don't keep the others from being
     * handled.
     */
    async handleGroups(refs: readonly repository.GroupRef[], by: string): Promise<number> {
      const lanes = createSemaphore(TENANTS_AT_ONCE, refs.length);
      const runs = [...Map.groupBy(refs, (ref) => ref.tenantId)].map(([tenantId, ones]) =>
        lanes.run(async () => {
          const groupIds = ones.map(({ groupId }) => groupId);
          let handled = 0;
          for (let start = 0; start < groupIds.length; start += GROUPS_AT_ONCE)
            handled += await handle(tenantId, groupIds.slice(start, start + GROUPS_AT_ONCE), by);
          return handled;
        }),
      );
      const ended = await Promise.allSettled(runs);
      let handled = 0;
      for (const one of ended) {
        if (one.status === "rejected") throw one.reason;
        handled += one.value;
      }
      return handled;
    },

    /** Groups that nobody has handled in time, and those whose retry is due. */
    findDue: (limit: number) => repository.selectDueGroups(db.write, limit),
  };
}
