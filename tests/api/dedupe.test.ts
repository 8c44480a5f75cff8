/**
 * `messageId` is unique per tenant, exactly, also when the same message arrives many times at once
 * at several servers.
 */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import {
  type Answer,
  callOver,
  countDeadlocks,
  countStored,
  createTenant,
  createTestApi,
  eventInput,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, eventually, startServer } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
/** Three doors: this process and two servers. */
let doors: TestApi["call"][];
let servers: Awaited<ReturnType<typeof startServer>>[];

beforeAll(async () => {
  api = await createTestApi();
  servers = await Promise.all([startServer(api.env), startServer(api.env)]);
  doors = [api.call, ...servers.map(({ url }) => callOver(url))];
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

function everywhere(count: number, send: (call: TestApi["call"], n: number) => Promise<Answer>) {
  return Promise.all(Array.from({ length: count }, (_, n) => send(doors[n % doors.length] ?? api.call, n)));
}

const single = (messageId: string) => (call: TestApi["call"]) =>
  call("POST", "/events", { as: tenant.key, json: eventInput({ messageId }) });

test("200 retries of one event at once store it once and all name the same id", async () => {
  const answers = await everywhere(200, single("only-once"));
  expect(answers.every((answer) => answer.status === 202)).toBe(true);
  expect(new Set(answers.map((answer) => answer.body.id)).size).toBe(1);
  expect(answers.filter((answer) => !answer.body.duplicate).length).toBe(1);
  expect(await countStored(api, tenant.tenantId)).toMatchObject({ events: 1, keys: 1, stored: 1 });
  const [row] = await api.sql`select id from events where tenant_id = ${tenant.tenantId}`;
  expect(row?.id).toBe(answers[0]?.body.id);
});

test("retries of bulk requests at once, in different orders, store each event once", async () => {
  const ROUNDS = 8;
  const EVENTS = 500;
  const RETRIES = 9;
  const sums = { inserted: 0, duplicates: 0 };
  for (let round = 0; round < ROUNDS; round += 1) {
    const events = Array.from({ length: EVENTS }, (_, n) => eventInput({ messageId: `m-${round}-${n}` }));
    const answers = await everywhere(RETRIES, (call, n) =>
      call("POST", "/events/bulk", {
        as: tenant.key,
        json: { events: n % 2 ? events : events.toReversed() },
      }),
    );
    for (const { status, body } of answers) {
      expect(status).toBe(202);
      sums.inserted += body.inserted;
      sums.duplicates += body.duplicates;
    }
  }
  const all = ROUNDS * EVENTS;
  expect(sums).toEqual({ inserted: all, duplicates: (RETRIES - 1) * all });
  expect(await countStored(api, tenant.tenantId)).toMatchObject({ events: all, keys: all, stored: all });
}, 20_000);

test("overlapping singles and bulks together store each event once", async () => {
  const events = (n: number) => [0, 1, 2, 3].map((k) => eventInput({ messageId: `x-${(n + k) % 20}` }));
  // More bulks at once than a process lets wait: the others are refused and retried, as clients do.
  const bulk = (call: TestApi["call"], n: number) =>
    eventually(async () => {
      const answer = await call("POST", "/events/bulk", { as: tenant.key, json: { events: events(n) } });
      return answer.status === 503 ? null : answer;
    });
  const answers = await everywhere(120, (call, n) =>
    n % 3 === 0 ? bulk(call, n) : single(`x-${n % 20}`)(call),
  );
  expect(answers.every((answer) => answer.status === 202)).toBe(true);
  expect(await countStored(api, tenant.tenantId)).toMatchObject({ events: 20, keys: 20, stored: 20 });
  const [twice] = await api.sql`select count(*)::int as n from (select from events
    where tenant_id = ${tenant.tenantId} group by message_id having count(*) > 1) repeated`;
  expect(twice?.n).toBe(0);
});

test("inside one request the first of two with the same id is stored", async () => {
  const events = Array.from({ length: 300 }, (_, n) =>
    eventInput({ messageId: `d-${n % 100}`, productId: `round-${Math.floor(n / 100)}` }),
  );
  const { body } = await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
  expect(body).toMatchObject({ received: 300, inserted: 100, duplicates: 200, rejected: 0 });
  const rows = await api.sql`select distinct product_id from events where tenant_id = ${tenant.tenantId}`;
  expect(rows.map((row) => row.product_id)).toEqual(["round-0"]);
});

test("the same id is another message for another tenant, in another case and with another space", async () => {
  const other = await createTenant(api);
  for (const messageId of ["same", "Same", "same ", "sa\u0301me", "s\u00e1me"])
    expect((await single(messageId)(api.call)).body.duplicate).toBe(false);
  const foreign = await api.call("POST", "/events", {
    as: other.key,
    json: eventInput({ messageId: "same" }),
  });
  expect(foreign.body.duplicate).toBe(false);
});

test("a duplicate is one for at least seven days, whatever else it says", async () => {
  const first = await single("kept")(api.call);
  const [key] = await api.sql`select extract(epoch from expires_at - now())::float8 / 86400 as days
    from event_keys where tenant_id = ${tenant.tenantId}`;
  expect(key?.days).toBeGreaterThan(7);
  await api.deps.rollups.prune();
  const again = await api.call("POST", "/events", {
    as: tenant.key,
    json: eventInput({ messageId: "kept", type: "click", timestamp: Date.now() - 86_400_000 }),
  });
  expect(again.body).toEqual({ accepted: true, id: first.body.id, duplicate: true });
});

test("in all of that nobody was caught in a deadlock", async () => {
  for (const server of servers) expect(await server.stop()).toBe(0);
  expect(await countDeadlocks(api, [api.deps.db.write])).toBe(0);
});
