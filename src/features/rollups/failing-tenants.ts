import type { Invalidator } from "../../cache/invalidator.ts";
import type { Database } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import type { Announcer } from "../../streams/producer.ts";
import type { Log } from "../../telemetry/log.ts";
import * as repository from "./failing-repository.ts";
import type { RollupService } from "./service.ts";

export interface RollupRetriesDeps {
  db: Database;
  rollups: Pick<RollupService, "rollUpHeld">;
  announcer: Pick<Announcer, "announce">;
  invalidator: Pick<Invalidator, "invalidate">;
  log: Log;
}

export type RollupRetries = ReturnType<typeof createRollupRetries>;

const TENANTS_A_ROUND = 20;
const BATCHES_A_STATEMENT = 200;
/** Of one tenant in one round, while its batches succeed. The next round continues. */
const STATEMENTS_A_ROUND = 10;
const REVIVED_AT_ONCE = 1_000;

/**
 * The retries of tenants whose batches could not be rolled up. Such a tenant is paused: the roll-up
 * statement passes its batches over, in every process, and they wait here. A retry takes one tenant
 * alone, after 2 s and then twice as long each time, so it costs others nothing. It finds the
 * batches that are poisonous by themselves, which become dead letters, and ends the pause as soon
 * as anything of the tenant can be counted.
 */
export function createRollupRetries({ db, rollups, announcer, invalidator, log }: RollupRetriesDeps) {
  const sql = db.rollup;

  /** One page; null when nothing waits. */
  async function retryPage(tenant: repository.FailingTenant) {
    const batches = await repository.selectHeld(sql, tenant, BATCHES_A_STATEMENT);
    if (batches.length === 0) return null;
    // Announced, too: if this process dies between the commit and the tags, the message deletes
    // them.
    await announcer.announce(batches);
    const outcome = await rollups.rollUpHeld(batches);
    await invalidator.invalidate(batches);
    return outcome;
  }

  /** Dead letters that are given their tries again count as waiting. */
  async function revive({ tenantId }: repository.FailingTenant): Promise<boolean> {
    return (await repository.reviveDeadLetters(sql, tenantId, REVIVED_AT_ONCE)) > 0;
  }

  /** Returns how many batches were rolled up. */
  async function retryTenant(tenantId: string): Promise<number> {
    const tenant = await repository.claimRetry(sql, tenantId);
    if (tenant === null) return 0;
    let claimed = 0;
    for (let statement = 0; statement < STATEMENTS_A_ROUND; statement += 1) {
      const page = await retryPage(tenant);
      if (page === null) {
        if (await revive(tenant)) continue;
        await repository.recordRetrySuccess(sql, tenant, false);
        return claimed;
      }
      claimed += page.claimed;
      if (tenant.paused && page.claimed > 0) {
        await repository.resumeTenant(sql, tenantId);
        tenant.paused = false;
        log.info({ tenantId }, "batches can be rolled up again");
      }
      if (page.failed) {
        await repository.recordRetryFailure(sql, tenantId);
        return claimed;
      }
    }
    await repository.recordRetrySuccess(sql, tenant, true);
    return claimed;
  }

  return {
    /**
     * For a command that waits for the outcome, whenever the next retry is due. Returns how many
     * batches were rolled up.
     */
    async retryNow(tenantId: string): Promise<number> {
      await repository.hastenRetry(sql, tenantId);
      return retryTenant(tenantId);
    },

    /** One round over the tenants whose retry is due. Returns how many batches were rolled up. */
    async retryDue(): Promise<number> {
      let claimed = 0;
      for (const tenantId of await repository.selectDueTenants(sql, TENANTS_A_ROUND)) {
        try {
          claimed += await retryTenant(tenantId);
        } catch (error) {
          const kind = classifyFailure(error);
          if (kind === "unavailable") throw error;
          if (kind === "timeout") await repository.recordRetryFailure(sql, tenantId);
          log.warn({ tenantId, error: String(error) }, "retry of a failing tenant broke off");
        }
      }
      return claimed;
    },
  };
}
