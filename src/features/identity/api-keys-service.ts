import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError } from "../../core/errors.ts";
import { isUuid, newId } from "../../core/ids.ts";
import type { RequestContext, Scope } from "../../core/principal.ts";
import { invalidInput } from "../../core/validation.ts";
import type { Database } from "../../db/client.ts";
import type { Transaction } from "../../db/transaction.ts";
import { recordAudit } from "../audit/index.ts";
import { type ApiKeyKind, makeApiKey } from "./api-keys.ts";
import type { ApiKeyRow } from "./api-keys-repository.ts";
import * as repository from "./api-keys-repository.ts";
import { requireStanding } from "./standing.ts";

export type ApiKeysService = ReturnType<typeof createApiKeysService>;

const PUBLISHABLE_SCOPES: Scope[] = ["events:write"];
/** Far more than a shop needs. Every process looks keys up, and a list of them must end. */
const MAX_KEYS = 200;
const SECRET_SCOPES: Scope[] = ["events:write", "events:read", "analytics:read"];

export interface NewApiKeyInput {
  name: string;
  kind: ApiKeyKind;
  scopes?: Scope[];
  /** RFC 3339. */
  expiresAt?: string;
}

export function createApiKeysService({ db }: { db: Database }) {
  return {
    /** The answer carries `key`, which is stored nowhere and never shown again. */
    async createApiKey(ctx: RequestContext, input: NewApiKeyInput) {
      const scopes = input.scopes ?? (input.kind === "publishable" ? PUBLISHABLE_SCOPES : SECRET_SCOPES);
      if (input.kind === "publishable" && scopes.some((scope) => scope !== "events:write")) {
        throw invalid(
          "scopes",
          "invalid_scope",
          "must be left out, or be events:write alone: a publishable key can do nothing else; make one of kind secret instead",
        );
      }
      const expiresAt = input.expiresAt ? new Date(input.expiresAt) : null;
      if (expiresAt && expiresAt.getTime() <= Date.now())
        throw invalid("expiresAt", "too_small", "must lie ahead, but is in the past");
      const { key, ...secret } = makeApiKey(input.kind);
      const row = { id: newId(), name: input.name, kind: input.kind, scopes, expiresAt, ...secret };
      const stored = await db.transaction(async (tx) => {
        await requireStanding(tx, ctx);
        await requireRoom(tx, ctx.tenantId);
        const inserted = await repository.insertApiKey(tx, ctx.tenantId, row);
        await recordAudit(tx, ctx, { action: "api_key.created", target: row.id, after: present(inserted) });
        return inserted;
      });
      return { ...present(stored), key };
    },

    async listApiKeys({ tenantId }: RequestContext, { limit, cursor }: { limit: number; cursor?: string }) {
      const [before = null] = cursor ? decodeCursor("apiKeys", cursor, 1) : [];
      if (before !== null && !isUuid(before)) throw new AppError("invalid_input", "The cursor is not valid.");
      const rows = await repository.selectApiKeys(db.read, tenantId, before, limit + 1);
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        items: rows.slice(0, limit).map(present),
        nextCursor: last ? encodeCursor("apiKeys", [last.id]) : null,
      };
    },

    /**
     * A new key of the same name, scopes and expiry; the old one works for another
     * `overlapSeconds`. Throws `conflict` for a key that was rotated before: its expiry is now that
     * of the overlap, and a second successor would inherit it.
     */
    async rotateApiKey(ctx: RequestContext, id: string, overlapSeconds: number) {
      const { tenantId } = ctx;
      return db.transaction(async (tx) => {
        await requireStanding(tx, ctx);
        const old = isUuid(id) ? await repository.lockApiKey(tx, tenantId, id) : null;
        if (!old) throw noKey();
        await requireRoom(tx, tenantId);
        if (old.replacedBy !== null)
          throw new AppError("conflict", `This key was rotated already; rotate ${old.replacedBy} instead.`);
        const { key, ...secret } = makeApiKey(old.kind);
        const { name, kind, scopes, expiresAt } = old;
        const stored = await repository.insertApiKey(tx, tenantId, {
          id: newId(),
          name,
          kind,
          scopes,
          expiresAt,
          ...secret,
        });
        await repository.replaceApiKey(tx, tenantId, id, stored.id, overlapSeconds);
        await recordAudit(tx, ctx, {
          action: "api_key.rotated",
          target: id,
          before: present(old),
          after: present(stored),
        });
        return { ...present(stored), key };
      });
    },

    async revokeApiKey(ctx: RequestContext, id: string): Promise<void> {
      await db.transaction(async (tx) => {
        const old = isUuid(id) ? await repository.lockApiKey(tx, ctx.tenantId, id) : null;
        if (!old) throw noKey();
        await repository.revokeApiKey(tx, ctx.tenantId, id);
        await recordAudit(tx, ctx, { action: "api_key.revoked", target: id, before: present(old) });
      });
    },
  };
}

function invalid(path: string, code: string, message: string): AppError {
  return invalidInput("body", [{ path, code, message }]);
}

/**
 * Call behind the tenant's lock of requireStanding, so that two requests can't both take the last
 * place.
 */
async function requireRoom(tx: Transaction, tenantId: string): Promise<void> {
  if ((await repository.countApiKeys(tx, tenantId)) >= MAX_KEYS)
    throw new AppError("conflict", `A tenant has at most ${MAX_KEYS} API keys: revoke one first.`);
}

function noKey(): AppError {
  return new AppError("not_found", "There is no such API key.");
}

function present(row: ApiKeyRow) {
  const { id, name, kind, prefix, scopes } = row;
  return {
    id,
    name,
    kind,
    prefix,
    scopes,
    expiresAt: row.expiresAt?.toISOString() ?? null,
    createdAt: row.createdAt.toISOString(),
    lastUsedAt: row.lastUsedAt?.toISOString() ?? null,
  };
}
