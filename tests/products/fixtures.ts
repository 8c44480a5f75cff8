/** What the tests of the catalogue share. */
import { createPerson, type TestApi } from "../factories.ts";

export function productInput(overrides: Record<string, unknown> = {}): Record<string, unknown> {
  return { name: "Green tea", price: 4.95, ...overrides };
}

/** A seller's token. */
export async function createSeller(api: TestApi, tenantId: string, sellerId: string): Promise<string> {
  const { userId, token } = await createPerson(api, tenantId, "seller");
  await api.sql`update memberships set seller_id = ${sellerId} where tenant_id = ${tenantId} and user_id = ${userId}`;
  return token;
}

export const pathOf = (id: string) => `/products/${encodeURIComponent(id)}`;

export interface StoredDomainEvent {
  topic: string;
  subjectId: string;
  sellerId: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: tests read whatever it holds
  payload: any;
}

/** The tenant's domain events, oldest first. */
export async function domainEvents(
  { sql }: Pick<TestApi, "sql">,
  tenantId: string,
): Promise<StoredDomainEvent[]> {
  return sql<StoredDomainEvent[]>`
    select topic, subject_id as "subjectId", seller_id as "sellerId", payload from outbox
    where tenant_id = ${tenantId} and jsonb_typeof(payload) = 'object' order by created_at, id`;
}

/**
 * Rows straight into the table: `count` products of one tenant, alike except for `columns`, SQL
 * over `n`.
 */
export async function fillCatalogue(
  { sql }: Pick<TestApi, "sql">,
  tenantId: string,
  count: number,
  columns: { name: string; price?: string; quantity?: string; category?: string; createdAt?: string },
): Promise<void> {
  const { name, price = "1", quantity = "null", category = "null", createdAt = "now()" } = columns;
  await sql`
    insert into products (tenant_id, id, name, price, quantity, category, created_at, updated_at)
    select ${tenantId}, 'p-' || n, ${sql.unsafe(name)}, ${sql.unsafe(price)}, ${sql.unsafe(quantity)},
      ${sql.unsafe(category)}, ${sql.unsafe(createdAt)}, now()
    from generate_series(1, ${count}) n`;
}
