import { expect } from "bun:test";
import type { CallRequest, TestApi } from "../factories.ts";

/** Products as they are stored, in the order of an export. */
export interface ProductRow {
  id: string;
  seller_id: string | null;
  sku: string | null;
  name: string;
  description: string | null;
  price: string;
  quantity: number | null;
  category: string | null;
  image_url: string | null;
  status: string;
  version: number;
  deleted: boolean;
}

export async function readProducts({ sql }: Pick<TestApi, "sql">, tenantId: string): Promise<ProductRow[]> {
  return sql<ProductRow[]>`
    select id, seller_id, sku, name, description, price::text as price, quantity, category, image_url, status, version,
      deleted_at is not null as deleted
    from products where tenant_id = ${tenantId} order by id`;
}

export interface OutboxRow {
  topic: string;
  subject_id: string;
  seller_id: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: tests read whatever the payload holds
  payload: any;
  undone: string[];
}

export async function readOutbox({ sql }: Pick<TestApi, "sql">, tenantId: string): Promise<OutboxRow[]> {
  return sql<OutboxRow[]>`
    select topic, subject_id, seller_id, payload, undone from outbox where tenant_id = ${tenantId} order by topic, id`;
}

/** So that there is somebody to be told of single products. */
export async function addWebhook({ sql }: Pick<TestApi, "sql">, tenantId: string): Promise<void> {
  await sql`
    insert into webhook_endpoints (tenant_id, id, url, topics, secret, status, created_at, updated_at)
    values (${tenantId}, gen_random_uuid(), 'https://example.com/hook', '{}', 'none', 'enabled', now(), now())`;
}

export const CSV = { "content-type": "text/csv" };

export function upload(
  api: TestApi,
  as: string,
  body: CallRequest["body"],
  headers: Record<string, string> = {},
) {
  return api.call("POST", "/products/import", { as, body, headers: { ...CSV, ...headers } });
}

/** Runs every waiting import of the database, as the worker does. */
export async function workOff({ deps }: Pick<TestApi, "deps">, holder = "test"): Promise<void> {
  while ((await deps.runNextImport({ holder, shouldStop: () => false })) !== null);
}

/** Uploads a file, has it worked off, and returns its report. */
export async function importCsv(
  api: TestApi,
  as: string,
  body: CallRequest["body"],
  headers: Record<string, string> = {},
) {
  const accepted = await upload(api, as, body, headers);
  expect(accepted.body).toEqual({ importId: expect.any(String), status: "queued" });
  expect(accepted.status).toBe(202);
  await workOff(api);
  return (await api.call("GET", `/products/imports/${accepted.body.importId}`, { as })).body;
}

export async function exportCsv(api: TestApi, as: string, query = ""): Promise<string> {
  const { status, headers, body } = await api.call("GET", `/products/export${query}`, { as });
  expect(status).toBe(200);
  expect(headers.get("content-type")).toBe("text/csv; charset=utf-8");
  return body;
}

/** What an upload leaves in the store: nothing, when it was refused. */
export async function countSpooled({ sql }: Pick<TestApi, "sql">, tenantId: string) {
  const [row] = await sql`
    select (select count(*)::int from product_imports where tenant_id = ${tenantId}) as imports,
      (select count(*)::int from product_import_chunks where tenant_id = ${tenantId}) as pieces,
      (select count(*)::int from products where tenant_id = ${tenantId}) as products`;
  return { ...row };
}

export const NOTHING = { imports: 0, pieces: 0, products: 0 };
