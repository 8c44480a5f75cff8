import { AppError } from "../../../core/errors.ts";
import { sha256 } from "../../../core/ids.ts";
import type { Sql } from "../../../db/client.ts";
import { pruneTable } from "../../../db/prune.ts";

/**
 * Lock-out by delay: each wrong password for an e-mail address makes the next attempt wait longer.
 * An attempt counts before its password is checked, so attempts at once can't share a turn. The
 * right password resets the count. Unknown addresses are counted alike.
 */
export interface SignInDelays {
  /**
   * Throws `rate_limited` when the next attempt is not due yet; one that is refused does not count.
   */
  takeTurn(attempt: Attempt): Promise<void>;
  /** The password was right: forgets the counts, and knows the address from now on. */
  forget(attempt: Attempt): Promise<void>;
}

export interface Attempt {
  email: string;
  /** Of the client, as it is counted: an IPv4 address, or the /64 of an IPv6 one. */
  address: string;
}

/**
 * From one address the delay doubles from the sixth attempt on, up to 15 minutes. From all
 * addresses together it does so from the 51st on, up to a minute. Strangers with many addresses
 * could use up each of those turns, so an address that the account lately signed in from does not
 * wait for them.
 */
const FROM_ONE_ADDRESS = { free: 5, maxSeconds: 900 };
const FROM_ALL = { free: 50, maxSeconds: 60 };
const KNOWN_DAYS = 30;

export function createSignInDelays(sql: Sql): SignInDelays {
  const subjectsOf = ({ email, address }: Attempt) => ({
    one: sha256(`${email} ${address}`),
    all: sha256(email),
    known: sha256(`${email} ${address} known`),
  });
  return {
    async takeTurn(attempt) {
      const { one, all, known } = subjectsOf(attempt);
      const open = await selectOpen(sql, [one, all, known]);
      const rows = [{ subject: one, ...FROM_ONE_ADDRESS }];
      if (!open.has(known)) rows.push({ subject: all, ...FROM_ALL });
      for (const { subject } of rows) if (open.has(subject)) throw tooSoon(open.get(subject));
      for (const row of rows)
        if (!(await count(sql, row))) throw tooSoon((await selectOpen(sql, [row.subject])).get(row.subject));
    },
    async forget(attempt) {
      const { one, all, known } = subjectsOf(attempt);
      await sql`
        insert into sign_in_delays (subject, failures, last_at, next_at)
        values (${known}, 0, now(), now() + ${KNOWN_DAYS} * interval '1 day')
        on conflict (subject) do update set last_at = excluded.last_at, next_at = excluded.next_at`;
      await sql`delete from sign_in_delays where subject in ${sql([one, all])}`;
    },
  };
}

/**
 * Seconds until the end of what still runs: a delay, or the time that an address is known for. By
 * the milliseconds of the column, which rounds.
 */
async function selectOpen(sql: Sql, subjects: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const rows = await sql<{ subject: string; seconds: number }[]>`
    select subject, ceil(extract(epoch from next_at - now()::timestamptz(3)))::int as seconds
    from sign_in_delays where subject in ${sql(subjects)} and next_at > now()::timestamptz(3)`;
  return new Map(rows.map(({ subject, seconds }) => [subject, seconds]));
}

/**
 * Of attempts at once, one that began earlier may be counted later. If it began without a delay, it
 * is due all the same.
 */
const OVERLAP_SECONDS = 60;

/** Counts an attempt and sets when the next one is due; false when this one is not due yet. */
async function count(
  sql: Sql,
  { subject, free, maxSeconds }: { subject: string; free: number; maxSeconds: number },
): Promise<boolean> {
  const failures = sql`case when known.last_at < excluded.last_at - interval '1 day' then 1 else known.failures + 1 end`;
  const rows = await sql`
    insert into sign_in_delays as known (subject, failures, last_at, next_at)
    values (${subject}, 1, now(), now() - ${OVERLAP_SECONDS} * interval '1 second')
    on conflict (subject) do update set failures = ${failures}, last_at = excluded.last_at,
      next_at = excluded.last_at + interval '1 second' *
        case when ${failures} <= ${free} then ${-OVERLAP_SECONDS}
          else least(power(2, least(${failures} - ${free} - 1, 20)), ${maxSeconds}) end
    where known.next_at <= excluded.last_at
    returning failures`;
  return rows.count > 0;
}

function tooSoon(seconds = 1): AppError {
  return new AppError(
    "rate_limited",
    `Too many wrong passwords for this e-mail address: try again in ${seconds} s.`,
    { retryAfterSeconds: seconds },
  );
}

/**
 * Deletes counts and known addresses that were over a day ago, at most `limit`; returns how many.
 */
export async function pruneSignInDelays(sql: Sql, limit: number): Promise<number> {
  const over = sql`last_at < now() - interval '1 day' and next_at < now()`;
  const key = { subject: "text" } as const;
  return pruneTable(sql, { table: "sign_in_delays", key, over, orderBy: "last_at" }, limit);
}
