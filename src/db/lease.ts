import type { Sql } from "./client.ts";

/**
 * Takes or renews a lease for `ttlMs`; false while another holder has it. A dead holder's lease
 * runs out.
 */
export async function acquireLease(sql: Sql, name: string, holder: string, ttlMs: number): Promise<boolean> {
  const rows = await sql`
    insert into leases as lease (name, holder, expires_at)
    values (${name}, ${holder}, now() + ${ttlMs} * interval '1 millisecond')
    on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at
    where lease.holder = excluded.holder or lease.expires_at < now()
    returning holder`;
  return rows.length > 0;
}

/** Gives a lease back early, so that a restart does not have to wait for it. */
export async function releaseLeases(sql: Sql, holder: string): Promise<void> {
  await sql`delete from leases where holder = ${holder}`;
}
