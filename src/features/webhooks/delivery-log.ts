import { AppError } from "../../core/errors.ts";
import { isUuid, newId } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { recordAudit } from "../audit/index.ts";
import type { DeliveryRow } from "./delivery-log-repository.ts";
import * as repository from "./delivery-log-repository.ts";
import { lockEndpoint, requireEndpoint } from "./endpoints.ts";
import { pageOf, readCursor } from "./page.ts";

export interface DeliveriesPage {
  limit: number;
  cursor?: string;
  status?: DeliveryRow["status"];
}

/** What POST /webhooks/:id/test sends. */
const TEST_TOPIC = "webhook.test";

/** What was sent to an endpoint, and sending it again. */
export function createDeliveryLog({ db }: { db: Database }) {
  return {
    async listDeliveries({ tenantId }: RequestContext, webhookId: string, page: DeliveriesPage) {
      const { limit, status = null } = page;
      const filters = ["webhook deliveries", webhookId, status];
      const before = readCursor(filters, page.cursor);
      await requireEndpoint(db.read, tenantId, webhookId);
      const rows = await repository.selectDeliveries(db.read, tenantId, webhookId, {
        status,
        before,
        limit: limit + 1,
      });
      return pageOf(filters, rows, limit, present);
    },

    /**
     * Sends the message again, as a new delivery with all its attempts. Throws `conflict` while it
     * is pending.
     */
    async replayDelivery(ctx: RequestContext, webhookId: string, deliveryId: string) {
      return db.transaction(async (tx) => {
        await requireEnabled(tx, ctx.tenantId, webhookId);
        const old = isUuid(deliveryId)
          ? await repository.findMessage(tx, ctx.tenantId, webhookId, deliveryId)
          : null;
        if (!old) throw new AppError("not_found", "There is no such delivery.");
        if (old.status === "pending") throw new AppError("conflict", "This delivery is still being tried.");
        const ids = { id: newId(), endpointId: webhookId, eventId: old.eventId };
        const made = present(await repository.insertDelivery(tx, ctx.tenantId, ids, old.payload));
        const replayed = { delivery: made.id, replayOf: deliveryId };
        await recordAudit(tx, ctx, { action: "webhook.replayed", target: webhookId, after: replayed });
        return made;
      });
    },

    /** Sends a message of the topic `webhook.test`, whatever the endpoint's topics. */
    async testWebhook(ctx: RequestContext, webhookId: string) {
      return db.transaction(async (tx) => {
        await requireEnabled(tx, ctx.tenantId, webhookId);
        const envelope = { type: TEST_TOPIC, timestamp: new Date().toISOString(), data: { webhookId } };
        const ids = { id: newId(), endpointId: webhookId, eventId: newId() };
        const made = present(await repository.insertDelivery(tx, ctx.tenantId, ids, envelope));
        await recordAudit(tx, ctx, {
          action: "webhook.tested",
          target: webhookId,
          after: { delivery: made.id },
        });
        return made;
      });
    },
  };
}

async function requireEnabled(tx: Transaction, tenantId: string, id: string): Promise<void> {
  const { status } = await lockEndpoint(tx, tenantId, id);
  if (status !== "enabled") throw new AppError("conflict", "This webhook is disabled; enable it first.");
}

function present(row: DeliveryRow) {
  return {
    ...row,
    nextAttemptAt: row.nextAttemptAt?.toISOString() ?? null,
    createdAt: row.createdAt.toISOString(),
    finishedAt: row.finishedAt?.toISOString() ?? null,
  };
}
