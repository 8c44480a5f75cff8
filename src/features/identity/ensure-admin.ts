import { AppError } from "../../core/errors.ts";
import { newId } from "../../core/ids.ts";
import { operatorContext } from "../../core/principal.ts";
import type { Database } from "../../db/client.ts";
import { classifyFailure } from "../../db/failures.ts";
import type { Transaction } from "../../db/transaction.ts";
import { recordAudit } from "../audit/index.ts";
import { lockMember, upsertMember } from "./members-repository.ts";
import { hashPassword, verifyPassword } from "./passwords/hashing.ts";
import { replacePassword } from "./passwords/repository.ts";
import { findTenant, findUserByEmail, insertAccount } from "./repository.ts";

/**
 * Makes an account the admin of a tenant, by id or slug; makes the account when it is new. Throws
 * `conflict` for an existing account that is no admin there, unless told to `promote` it: a
 * stranger may have registered the address first. An existing account keeps its password, unless
 * told to `setPassword`; a changed password ends the account's sessions.
 */
export async function ensureAdmin(
  db: Database,
  input: {
    email: string;
    password: string;
    tenant: string;
    promote?: boolean;
    setPassword?: boolean;
  },
) {
  const tenant = await findTenant(db.orm, input.tenant);
  if (!tenant) throw new AppError("not_found", `There is no tenant "${input.tenant}".`);
  const tenantId = tenant.id;
  const email = input.email.toLowerCase();
  const existing = await findUserByEmail(db.orm, email);
  if (!existing) {
    const user = { id: newId(), email, name: null, passwordHash: await hashPassword(input.password) };
    try {
      await db.transaction(async (tx) => {
        await insertAccount(tx, user);
        await joinAsAdmin(tx, tenantId, user.id);
      });
      return { created: true, passwordSet: true, userId: user.id, tenantId };
    } catch (error) {
      // Another process starting beside this one was faster.
      if (classifyFailure(error) !== "conflict") throw error;
    }
  }
  const user = existing ?? (await findUserByEmail(db.orm, email));
  if (!user) throw new Error("the account is neither there nor can it be made");
  const isOther = input.setPassword && !(await verifyPassword(user.passwordHash, input.password));
  const passwordHash = isOther ? await hashPassword(input.password) : null;
  await db.transaction(async (tx) => {
    const before = await lockMember(tx, tenantId, user.id);
    if (before?.role !== "admin" && !input.promote) {
      throw new AppError(
        "conflict",
        `${email} has an account that is no admin of ${tenant.slug}; \`footfall admin create --promote\` makes it one.`,
      );
    }
    if (before?.role !== "admin") await joinAsAdmin(tx, tenantId, user.id, before ?? undefined);
    if (passwordHash === null) return;
    await replacePassword(tx, user.id, passwordHash);
    await recordAudit(tx, operatorContext(tenantId), { action: "user.password_set", target: user.id });
  });
  return { created: false, passwordSet: passwordHash !== null, userId: user.id, tenantId };
}

async function joinAsAdmin(tx: Transaction, tenantId: string, userId: string, before?: object) {
  const after = { role: "admin", sellerId: null } as const;
  await upsertMember(tx, tenantId, userId, after.role, after.sellerId);
  const action = before ? "member.updated" : "member.joined";
  await recordAudit(tx, operatorContext(tenantId), { action, target: userId, before, after });
}
