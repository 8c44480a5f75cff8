import type { Topic } from "../../core/domain-events.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid, newId } from "../../core/ids.ts";
import type { RequestContext } from "../../core/principal.ts";
import { invalidInput } from "../../core/validation.ts";
import type { Database, Sql } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { recordAudit } from "../audit/index.ts";
import { type AddressGuard, ForbiddenTarget } from "./address-guard.ts";
import type { EndpointRow } from "./endpoints-repository.ts";
import * as repository from "./endpoints-repository.ts";
import { pageOf, readCursor } from "./page.ts";
import { makeSecret } from "./signature.ts";

export interface WebhooksDeps {
  db: Database;
  guard: AddressGuard;
}

export interface WebhookFields {
  url: string;
  topics: Topic[];
  description: string | null;
}

/** Every event costs a row for every endpoint that wants it. */
const MAX_ENDPOINTS = 50;
/** How long the former secret signs beside the new one. */
const OVERLAP_SECONDS = 86_400;
/** A request must not wait long for a slow name server. */
const LOOKUP_TIMEOUT_MS = 1_500;

/** The endpoints that admins make, and their secrets. */
export function createEndpoints({ db, guard }: WebhooksDeps) {
  return {
    async listWebhooks({ tenantId }: RequestContext, { limit, cursor }: { limit: number; cursor?: string }) {
      const before = readCursor("webhooks", cursor);
      const rows = await repository.selectEndpoints(db.read, tenantId, before, limit + 1);
      return pageOf("webhooks", rows, limit, present);
    },

    async getWebhook({ tenantId }: RequestContext, id: string) {
      return present(await requireEndpoint(db.read, tenantId, id));
    },

    /** The answer carries the secret, which is never shown again. */
    async createWebhook(ctx: RequestContext, input: WebhookFields) {
      const url = await checkUrl(guard, input.url);
      const secret = makeSecret();
      const row = { ...input, id: newId(), url, topics: [...new Set(input.topics)], secret };
      const stored = await db.transaction(async (tx) => {
        await repository.holdEndpoints(tx, ctx.tenantId);
        if ((await repository.countEndpoints(tx, ctx.tenantId)) >= MAX_ENDPOINTS)
          throw new AppError("conflict", `A tenant has at most ${MAX_ENDPOINTS} webhooks.`);
        const inserted = present(await repository.insertEndpoint(tx, ctx.tenantId, row));
        await recordAudit(tx, ctx, { action: "webhook.created", target: row.id, after: inserted });
        return inserted;
      });
      return { ...stored, secret };
    },

    /** Enabling it, or sending it elsewhere, forgets that it was failing. */
    async updateWebhook(
      ctx: RequestContext,
      id: string,
      change: Partial<WebhookFields> & { status?: EndpointRow["status"] },
    ) {
      await requireEndpoint(db.read, ctx.tenantId, id);
      const url = change.url === undefined ? undefined : await checkUrl(guard, change.url);
      return db.transaction(async (tx) => {
        const before = await lockEndpoint(tx, ctx.tenantId, id);
        const status = change.status ?? before.status;
        const fresh = change.status === "enabled" || (url !== undefined && url !== before.url);
        const updated = await repository.updateEndpoint(tx, ctx.tenantId, id, {
          url: url ?? before.url,
          description: change.description === undefined ? before.description : change.description,
          topics: change.topics ? [...new Set(change.topics)] : before.topics,
          status,
          disabledReason: status === "enabled" ? null : (before.disabledReason ?? "manual"),
          failingSince: fresh ? null : before.failingSince,
        });
        const [old, after] = [present(before), present(updated)];
        await recordAudit(tx, ctx, { action: "webhook.updated", target: id, before: old, after });
        return after;
      });
    },

    /** Nothing more is sent. What waited for it is ended by housekeeping. */
    async deleteWebhook(ctx: RequestContext, id: string): Promise<void> {
      await db.transaction(async (tx) => {
        const before = present(await lockEndpoint(tx, ctx.tenantId, id));
        await repository.deleteEndpoint(tx, ctx.tenantId, id);
        await recordAudit(tx, ctx, { action: "webhook.deleted", target: id, before });
      });
    },

    async rotateSecret(ctx: RequestContext, id: string) {
      const secret = makeSecret();
      const stored = await db.transaction(async (tx) => {
        const before = present(await lockEndpoint(tx, ctx.tenantId, id));
        const after = present(await repository.replaceSecret(tx, ctx.tenantId, id, secret, OVERLAP_SECONDS));
        await recordAudit(tx, ctx, { action: "webhook.secret_rotated", target: id, before, after });
        return after;
      });
      return { ...stored, secret };
    },
  };
}

/** The URL as it is stored. Throws `invalid_input` for a URL that the address guard refuses. */
async function checkUrl(guard: AddressGuard, text: string): Promise<string> {
  try {
    const url = guard.parseUrl(text);
    await guard.findAddresses(url, LOOKUP_TIMEOUT_MS);
    return url.href;
  } catch (error) {
    if (!(error instanceof ForbiddenTarget)) throw error;
    throw invalidInput("body", [{ path: "url", code: "forbidden_target", message: error.message }]);
  }
}

export async function requireEndpoint(sql: Sql, tenantId: string, id: string): Promise<EndpointRow> {
  const row = isUuid(id) ? await repository.findEndpoint(sql, tenantId, id) : null;
  if (!row) throw noWebhook();
  return row;
}

/** Held until the transaction ends. */
export async function lockEndpoint(tx: Transaction, tenantId: string, id: string): Promise<EndpointRow> {
  const row = isUuid(id) ? await repository.lockEndpoint(tx, tenantId, id) : null;
  if (!row) throw noWebhook();
  return row;
}

function noWebhook(): AppError {
  return new AppError("not_found", "There is no such webhook.");
}

function present(row: EndpointRow) {
  return {
    ...row,
    failingSince: row.failingSince?.toISOString() ?? null,
    previousSecretUntil: row.previousSecretUntil?.toISOString() ?? null,
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
  };
}
