/**
 * A program that changes the products of a tenant until it is killed: `bun change-products.ts <tenantId>`, with DATABASE_URL. Each
 * change is one transaction: the product's next version, and the domain event that tells of it. One in ten is rolled back.
 */
import { createDatabase } from "../../src/db/client.ts";
import { insertDomainEvents } from "../../src/features/outbox/index.ts";

const [tenantId = ""] = process.argv.slice(2);
const WRITERS = 4;
const db = createDatabase({
  url: process.env.DATABASE_URL ?? "",
  prepare: true,
  applicationName: "change-products",
});

class Refused extends Error {}

async function changeOne(): Promise<void> {
  const id = `p-${Math.floor(Math.random() * 40)}`;
  const refused = Math.random() < 0.1;
  await db.transaction(async (tx) => {
    const [product] = await tx`
      update products set version = version + 1, updated_at = now()
      where tenant_id = ${tenantId} and id = ${id} returning version`;
    await insertDomainEvents(tx, tenantId, [
      {
        topic: "product.updated",
        subjectId: id,
        sellerId: null,
        payload: { version: product?.version },
        consumers: ["notifications"],
      },
    ]);
    if (refused) throw new Refused();
  });
}

console.log("changing");
await Promise.all(
  Array.from({ length: WRITERS }, async () => {
    for (;;) {
      await changeOne().catch((error) => {
        if (!(error instanceof Refused)) throw error;
      });
      await Bun.sleep(Math.random() * 20);
    }
  }),
);
