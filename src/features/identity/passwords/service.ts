import { AppError } from "../../../core/errors.ts";
import { isUuid, randomToken, sha256 } from "../../../core/ids.ts";
import type { RequestContext } from "../../../core/principal.ts";
import { createSemaphore } from "../../../core/semaphore.ts";
import type { Database } from "../../../db/client.ts";
import type { Transaction } from "../../../db/transaction.ts";
import type { Mailer } from "../../../mail/mailer.ts";
import type { Log } from "../../../telemetry/log.ts";
import { recordAudit } from "../../audit/index.ts";
import { lockMember } from "../members-repository.ts";
import { findUserByEmail, findUserById } from "../repository.ts";
import { requireStanding } from "../standing.ts";
import { hashPassword, verifyPassword } from "./hashing.ts";
import * as repository from "./repository.ts";
import type { SignInDelays } from "./sign-in-delays.ts";

export interface PasswordsDeps {
  db: Database;
  delays: SignInDelays;
  /** Null: no mail is sent, and links are made by admins and the operator. */
  mailer: Mailer | null;
  /** Where people reach this API, without a slash at its end; null: not known. */
  publicUrl: string | null;
  log: Log;
}

export interface ResetLink {
  token: string;
  /** The page that takes the new password; a path when the public URL is not known. */
  url: string;
  expiresAt: string;
}

export type PasswordsService = ReturnType<typeof createPasswordsService>;

/** A mail comes within minutes; a link that is passed on may wait for the next morning. */
const MAILED_SECONDS = 3_600;
const LINK_SECONDS = 86_400;
/** Bounds how many mails a stranger can have sent to somebody. */
const MAX_OPEN = 3;
/**
 * No request waits for these, so no limit on requests bounds them: strangers must not fill the
 * pools.
 */
const MAILING = 2;
const MAILING_WAITING = 100;

/**
 * Changes and resets of passwords. Each ends all sessions of the account: refresh and access
 * tokens.
 */
export function createPasswordsService({ db, delays, mailer, publicUrl, log }: PasswordsDeps) {
  const mailing = createSemaphore(MAILING, MAILING_WAITING);

  /** Null when the account has too many open links, and the new one may not `replace` another. */
  async function makeLink(
    tx: Transaction,
    reset: { userId: string; tenantId: string | null; validSeconds: number },
    replace: boolean,
  ): Promise<ResetLink | null> {
    const token = randomToken(32);
    const row = { tokenHash: sha256(token), ...reset };
    const expiresAt = await repository.insertReset(tx, row, { atMost: MAX_OPEN, replace });
    if (expiresAt === null) return null;
    return {
      token,
      url: `${publicUrl ?? ""}/password-reset?token=${token}`,
      expiresAt: expiresAt.toISOString(),
    };
  }

  async function mailLink(email: string): Promise<void> {
    const user = mailer && (await findUserByEmail(db.orm, email));
    if (!user) return;
    const reset = { userId: user.id, tenantId: null, validSeconds: MAILED_SECONDS };
    const link = await db.transaction((tx) => makeLink(tx, reset, false));
    if (!link) return;
    try {
      await mailer.send({ to: user.email, subject: "Set a new password", text: mailText(link.url) });
    } catch (error) {
      // Or mails that were never sent would leave no room for one that is.
      await repository.deleteReset(db.write, sha256(link.token));
      throw error;
    }
  }

  /**
   * For a link by somebody who answers for the account: links that strangers had mailed must not
   * prevent it.
   */
  async function makeTrustedLink(tx: Transaction, userId: string, tenantId: string | null) {
    const link = await makeLink(tx, { userId, tenantId, validSeconds: LINK_SECONDS }, true);
    if (!link) throw new Error("a link that may replace another must be made");
    return link;
  }

  /** In the log of each of the account's tenants, by the account itself. Returns which they are. */
  async function auditEverywhere(tx: Transaction, userId: string, requestId: string, action: string) {
    const memberships = await repository.selectMembershipsOf(tx, userId);
    for (const { tenantId, role, sellerId } of memberships) {
      const principal = { kind: "user", userId, tenantId, role, sellerId } as const;
      await recordAudit(tx, { tenantId, principal, requestId, sellerId }, { action, target: userId });
    }
    return memberships.map(({ tenantId }) => tenantId);
  }

  return {
    /**
     * Throws `invalid_input` for a wrong current password, `rate_limited` after too many of them.
     */
    async changePassword(
      ctx: RequestContext,
      { currentPassword, newPassword }: { currentPassword: string; newPassword: string },
      address: string,
    ): Promise<void> {
      const { principal } = ctx;
      if (principal.kind !== "user") throw new AppError("forbidden", "An API key has no password.");
      const user = await findUserById(db.orm, principal.userId);
      if (!user) throw new AppError("unauthenticated", "The account is gone.");
      const attempt = { email: user.email, address };
      await delays.takeTurn(attempt);
      if (!(await verifyPassword(user.passwordHash, currentPassword)))
        throw wrongField("currentPassword", "wrong_password", "This is not the current password.");
      await delays.forget(attempt);
      if (newPassword === currentPassword)
        throw wrongField("newPassword", "same_password", "The new password is the current one.");
      const passwordHash = await hashPassword(newPassword);
      await db.transaction(async (tx) => {
        // Somebody who knows the old password must not undo a reset that was made because of it.
        if ((await repository.replacePassword(tx, user.id, passwordHash, user.sessionVersion)) === null)
          throw new AppError("unauthenticated", "The password was changed meanwhile: sign in again.");
        await auditEverywhere(tx, user.id, ctx.requestId, "user.password_changed");
      });
    },

    /**
     * Sends a link if there is a mail server and an account. Returns at once and never throws:
     * neither the answer nor its time may tell whether the address has an account.
     */
    requestReset(email: string): void {
      mailing
        .run(() => mailLink(email))
        .catch((error) => log.warn({ error: String(error) }, "a password reset was not mailed"));
    },

    /** Throws `not_found` for a token that is unknown, used or over. */
    async confirmReset(
      { token, password }: { token: string; password: string },
      { requestId, address }: { requestId: string; address: string },
    ): Promise<void> {
      const tokenHash = sha256(token);
      if (!(await repository.isOpenReset(db.write, tokenHash))) throw noReset();
      const passwordHash = await hashPassword(password);
      const email = await db.transaction(async (tx) => {
        const reset = await repository.takeReset(tx, tokenHash);
        if (!reset) throw noReset();
        const tenants = await auditEverywhere(tx, reset.userId, requestId, "user.password_reset");
        // An account that has left, or has joined another tenant since, is not this admin's to
        // reset.
        const isInReach = tenants.length === 1 && tenants[0] === reset.tenantId;
        if (reset.tenantId !== null && !isInReach) throw noReset();
        return repository.replacePassword(tx, reset.userId, passwordHash);
      });
      if (email !== null) await delays.forget({ email, address });
    },

    /**
     * A link for a member, which the admin passes on. Throws `not_found`, and `forbidden` for a
     * member of other tenants, too: that account is not this admin's alone.
     */
    async createResetLink(ctx: RequestContext, userId: string): Promise<ResetLink> {
      return db.transaction(async (tx) => {
        await requireStanding(tx, ctx);
        const member = isUuid(userId) ? await lockMember(tx, ctx.tenantId, userId) : null;
        if (!member) throw new AppError("not_found", "There is no such member.");
        if ((await repository.selectMembershipsOf(tx, userId)).length > 1)
          throw new AppError(
            "forbidden",
            "This member belongs to other tenants, too: the operator can run `footfall admin reset-password`.",
          );
        const link = await makeTrustedLink(tx, userId, ctx.tenantId);
        const after = { expiresAt: link.expiresAt };
        await recordAudit(tx, ctx, { action: "user.password_reset_link", target: userId, after });
        return link;
      });
    },

    /** The same by the operator, for any account. */
    async createResetLinkFor(email: string): Promise<ResetLink> {
      const user = await findUserByEmail(db.orm, email.toLowerCase());
      if (!user) throw new AppError("not_found", `There is no account with the e-mail address ${email}.`);
      return db.transaction((tx) => makeTrustedLink(tx, user.id, null));
    },
  };
}

function wrongField(path: string, code: string, message: string): AppError {
  return new AppError("invalid_input", message, { errors: [{ path, code, message }] });
}

function noReset(): AppError {
  return new AppError("not_found", "This link is not valid: it was used, has expired, or was never made.");
}

function mailText(url: string): string {
  return `Somebody asked for a new password for this e-mail address.

Set it here within an hour:
${url}

It ends all sessions of the account. If it was not you, do nothing: the password stays as it is.
`;
}
