import type { Invalidator } from "../../cache/invalidator.ts";
import { ORDERS_TAG, orderTag, PRODUCTS_TAG, productTag } from "../../cache/tags.ts";
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

/** After these a command that failed is tried again; after the last one it is a dead letter. */
const RETRY_DELAYS_SECONDS = [1, 5, 15];
/** One transaction's share: large enough to spread its round trips, small enough to hold stock rows briefly. */
const COMMANDS_A_TRANSACTION = 200;
/** A group that keeps receiving commands gives way to others after so many rounds; the sweeper finds what is left. */
const MAX_ROUNDS = 50;
const MAX_ERROR_LENGTH = 1_000;
const LOCK_TIMEOUT = "2s";

interface Attempt {
  commands: (Command & { tenantId: string })[];
}

interface Round {
  commands: Command[];
  effects: Effects;
  batch: SalesBatch | null;
  /** Groups whose head failed before and is due: each gets a transaction of its own. */
  retries: string[];
}

/**
 * Handles commands (G5, G6): many groups in one transaction, in which their commands are locked, decided and marked done
 * together with all of their effects. A failure is narrowed down by halving until a single command is left, which is
 * retried later and holds up its own group only.
 */
export function createOrderHandling(deps: HandlingDeps) {
  const { db, partitions, announcer, invalidator, log, metrics } = deps;
  const underWay = new Set<Attempt>();

  /** One transaction; nothing of it is visible before it commits. Notes in `attempt` what it has taken up. */
  function runTransaction(
    tenantId: string,
    groupIds: readonly string[],
    perGroup: number,
    by: string,
    attempt: Attempt,
  ): Promise<Round> {
    return db.transaction(async (tx) => {
      const [, claimed] = await Promise.all([
        // A lock that is held for long (an admin's, a migration's) must not hold up every group.
        tx`select set_config('lock_timeout', ${LOCK_TIMEOUT}, true)`,
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
      const [batch] = await Promise.all([
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

  /** Cached answers go after the commit; the announcement of the sales follows, since the sweeper would find them anyway. */
  async function publish(tenantId: string, { effects, commands, batch }: Round): Promise<void> {
    for (const { outcome } of effects.outcomes) metrics.orderCommands.inc({ outcome });
    const tags = new Set([ORDERS_TAG, ...commands.map((command) => orderTag(command.orderId))]);
    if (effects.stock.size > 0) tags.add(PRODUCTS_TAG);
    for (const productId of effects.stock.keys()) tags.add(productTag(productId));
    await invalidator.invalidateTags(tenantId, [...tags]);
    if (batch) await announcer.announce([batch]);
  }

  /** One pass over the groups; returns how many commands were handled, or failed. */
  async function pass(tenantId: string, groupIds: string[], perGroup: number, by: string): Promise<number> {
    const attempt: Attempt = { commands: [] };
    const stopTimer = metrics.orderTransactionDuration.startTimer();
    underWay.add(attempt);
    let round: Round;
    try {
      round = await runTransaction(tenantId, groupIds, perGroup, by, attempt);
    } catch (error) {
      const kind = classifyFailure(error);
      const [head] = attempt.commands;
      if (kind === "unavailable" || kind === "retry" || !head) throw error;
      return narrowDown(tenantId, groupIds, perGroup, by, head, error);
    } finally {
      underWay.delete(attempt);
      stopTimer();
    }
    if (round.commands.length > 0) await publish(tenantId, round);
    let handled = round.commands.length;
    for (const groupId of round.retries) handled += await pass(tenantId, [groupId], 1, by);
    return handled;
  }

  /** Halves what has failed together, down to the one command that failed. */
  async function narrowDown(
    tenantId: string,
    groupIds: string[],
    perGroup: number,
    by: string,
    head: Command,
    error: unknown,
  ): Promise<number> {
    if (groupIds.length === 1 && perGroup === 1) {
      await noteFailure(tenantId, head, error);
      return 1;
    }
    if (groupIds.length === 1) return pass(tenantId, groupIds, 1, by);
    const middle = Math.ceil(groupIds.length / 2);
    const first = await pass(tenantId, groupIds.slice(0, middle), perGroup, by);
    return first + (await pass(tenantId, groupIds.slice(middle), perGroup, by));
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

  return {
    /** Commands under way in this process, by tenant. */
    inFlight(): Record<string, number> {
      const counts: Record<string, number> = {};
      for (const { commands } of underWay)
        for (const { tenantId } of commands) counts[tenantId] = (counts[tenantId] ?? 0) + 1;
      return counts;
    },

    /**
     * Handles what waits in these groups of one tenant, until nothing is left that is due. Looks again after every
     * commit: a command that came in meanwhile was announced to somebody who found the group locked by this one.
     * Groups that others hold are left to them. Throws when Postgres can't be reached.
     */
    async handle(tenantId: string, groupIds: readonly string[], by: string): Promise<number> {
      await partitions.ensure([Date.now()]);
      let handled = 0;
      const groups = [...new Set(groupIds)];
      const perGroup = Math.max(1, Math.floor(COMMANDS_A_TRANSACTION / groups.length));
      for (let round = 0; round < MAX_ROUNDS; round += 1) {
        const done = await pass(tenantId, groups, perGroup, by);
        if (done === 0) break;
        handled += done;
      }
      return handled;
    },

    /** Groups that nobody has handled in time, and those whose retry is due. */
    findDue: (limit: number) => repository.selectDueGroups(db.write, limit),
  };
}
