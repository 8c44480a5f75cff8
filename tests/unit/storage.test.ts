/** Postgres gives back what ingest writes, whatever characters are in it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import { idAt, newId } from "../../src/core/ids.ts";
import { isStorable } from "../../src/core/validation.ts";
import { insertBatches, type ParsedEvent } from "../../src/features/events/index.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

const NOW = Date.UTC(2026, 10, 21);

/** Text with everything that array literals, JSON and SQL might interpret. */
const awkward = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({
    unit: fc.constantFrom(
      '"',
      "\\",
      "{",
      "}",
      ",",
      "'",
      "$1",
      " ",
      "\n",
      "\t",
      "null",
      "NULL",
      "\u2028",
      "é",
      "\u0301",
      "🙂",
    ),
  }),
  fc.constantFrom(
    "null",
    "NULL",
    "",
    " ",
    '""',
    "{}",
    "\\",
    '\\"',
    "\\\\",
    "--",
    "'; --",
    "\ufeff",
    "\u007f",
  ),
);
const storable = awkward.filter(isStorable);

test("strings and JSON come back character by character", async () => {
  const rows = fc.array(
    fc.record({
      productId: fc.option(storable),
      userId: storable,
      anonymousId: fc.option(storable),
      properties: fc.option(
        fc.dictionary(
          storable,
          fc.oneof(storable, fc.double({ noNaN: true, noDefaultInfinity: true }), fc.boolean()),
        ),
      ),
    }),
    { minLength: 1, maxLength: 30 },
  );
  await fc.assert(
    fc.asyncProperty(rows, async (given) => {
      const batchId = newId();
      const events = given.map(
        (one): ParsedEvent => ({
          ...one,
          id: idAt(NOW),
          tsMs: NOW,
          type: "view",
          sessionId: null,
          messageId: null,
          messageKey: null,
          quantity: null,
          unitPrice: null,
          amount: null,
          properties: one.properties && JSON.stringify(one.properties),
          context: null,
        }),
      );
      const batch = {
        tenantId: tenant.tenantId,
        batchId,
        receivedAtMs: NOW,
        received: events.length,
        rejected: 0,
        events,
      };
      await insertBatches(api.deps.db.write, [batch]);
      const stored = await api.sql`select id, product_id as "productId", user_id as "userId",
        anonymous_id as "anonymousId", properties from events where batch_id = ${batchId} order by id`;
      expect([...stored]).toEqual(
        events.map(({ id, productId, userId, anonymousId, properties }) => ({
          id,
          productId,
          userId,
          anonymousId,
          properties: properties === null ? null : JSON.parse(properties),
        })),
      );
    }),
    { numRuns: 60 },
  );
}, 30_000);

test("a text that Postgres refuses is one that isStorable refuses", async () => {
  await fc.assert(
    fc.asyncProperty(awkward, async (text) => {
      const kept = await api.sql`select ${text}::text as text`.then(
        ([row]) => row?.text === text,
        () => false,
      );
      expect(isStorable(text)).toBe(kept);
    }),
    { numRuns: 200 },
  );
});
