import { AppError } from "../../../core/errors.ts";
import { sha256 } from "../../../core/ids.ts";
import type { Sql } from "../../../db/client.ts";
import { pruneTable } from "../../../db/prune.ts";

/**
 * Lock-out by delay: who tries wrong passwords of one e-mail address has to wait longer each time. Each
 * attempt counts before its password is looked at, so that attempts at once can't share a turn. The right
 * password forgets the count. Unknown addresses are counted alike.
 */
export interface SignInDelays {
  /** Throws `rate_limited` when the next attempt is not due yet. */
  takeTurn(attempt: Attempt): Promise<void>;
  /** The password was right. */
  forget(attempt: Attempt): Promise<void>;
}

export interface Attempt {
  email: string;
  /** Of the client, as it is counted: an IPv4 address, or the /64 of an IPv6 one. */
  address: string;
}

/**
 * From one address the delay doubles from the sixth attempt on, up to 15 minutes. From all addresses
 * together it does so from the 51st on, up to a minute: a stranger can slow the owner down and no more.
 */
const FROM_ONE_ADDRESS = { free: 5, maxSeconds: 900 };
const FROM_ALL = { free: 50, maxSeconds: 60 };

export function createSignInDelays(sql: Sql): SignInDelays {
  const rowsOf = ({ email, address }: Attempt) => [
    { subject: sha256(`${email} ${address}`), ...FROM_ONE_ADDRESS },
    { subject: sha256(email), ...FROM_ALL },
  ];
  return {
    async takeTurn(attempt) {
      const rows = rowsOf(attempt);
      for (const row of rows) if (!(await count(sql, row))) throw await tooSoon(sql, row.subject);
    },
    async forget(attempt) {
      const subjects = rowsOf(attempt).map(({ subject }) => subject);
      await sql`delete from sign_in_delays where subject in ${sql(subjects)}`;
    },
  };
}

/** Counts an attempt and sets when the next one is due; false when this one is not due yet. */
async function count(
  sql: Sql,
  { subject, free, maxSeconds }: { subject: string; free: number; maxSeconds: number },
): Promise<boolean> {
  const failures = sql`case when known.last_at < excluded.last_at - interval '1 day' then 1 else known.failures + 1 end`;
  const rows = await sql`
    insert into sign_in_delays as known (subject, failures, last_at, next_at) values (${subject}, 1, now(), now())
    on conflict (subject) do update set failures = ${failures}, last_at = excluded.last_at,
      next_at = excluded.last_at + interval '1 second' *
        case when ${failures} <= ${free} then 0
          else least(power(2, least(${failures} - ${free} - 1, 20)), ${maxSeconds}) end
    where known.next_at <= excluded.last_at
    returning failures`;
  return rows.count > 0;
}

async function tooSoon(sql: Sql, subject: string): Promise<AppError> {
  const [row] = await sql<{ seconds: number }[]>`
    select ceil(extract(epoch from next_at - now()))::int as seconds from sign_in_delays where subject = ${subject}`;
  const retryAfterSeconds = Math.max(1, row?.seconds ?? 1);
  return new AppError(
    "rate_limited",
    `Too many wrong passwords for this e-mail address: try again in ${retryAfterSeconds} s.`,
    { retryAfterSeconds },
  );
}

/** Deletes counts that are a day old, at most `limit`; returns how many. */
export async function pruneSignInDelays(sql: Sql, limit: number): Promise<number> {
  const over = sql`last_at < now() - interval '1 day'`;
  const key = { subject: "text" } as const;
  return pruneTable(sql, { table: "sign_in_delays", key, over, orderBy: "last_at" }, limit);
}
