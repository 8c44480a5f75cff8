import type { Sql } from "../../db/client.ts";

export async function hasEvents(sql: Sql, tenantId: string): Promise<boolean> {
  const [row] = await sql<{ found: boolean }[]>`
    select exists (select from events where tenant_id = ${tenantId}) as found`;
  return row?.found ?? false;
}
