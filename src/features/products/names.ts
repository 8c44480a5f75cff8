import type { Sql } from "../../db/client.ts";
import { selectNames } from "./repository.ts";

/** Names by id: those of deleted products too, since what was sold keeps its name. Unknown ids are left out. */
export async function readProductNames(
  sql: Sql,
  tenantId: string,
  ids: readonly string[],
): Promise<Map<string, string>> {
  if (ids.length === 0) return new Map();
  return new Map((await selectNames(sql, tenantId, ids)).map(({ id, name }) => [id, name]));
}
