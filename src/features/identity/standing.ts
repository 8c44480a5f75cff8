import { AppError } from "../../core/errors.ts";
import type { RequestContext } from "../../core/principal.ts";
import type { Transaction } from "../../db/transaction.ts";
import { lockApiKey } from "./api-keys-repository.ts";
import { lockMember, lockTenant } from "./members-repository.ts";

/**
 * A checked credential is remembered for seconds. A removed or demoted person must not use them to
 * get back in. So a change of access checks its author again in its transaction, behind the lock
 * that all such changes of a tenant take. Throws `forbidden`.
 */
export async function requireStanding(
  tx: Transaction,
  { tenantId, principal }: RequestContext,
): Promise<void> {
  await lockTenant(tx, tenantId);
  if (principal.kind === "operator") return;
  const stands =
    principal.kind === "user"
      ? (await lockMember(tx, tenantId, principal.userId))?.role === "admin"
      : (await lockApiKey(tx, tenantId, principal.keyId)) !== null;
  if (!stands) throw new AppError("forbidden", "This credential may not do that any more.");
}
