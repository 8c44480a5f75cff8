/**
 * Idempotency-Key: however often and however fast, one effect. IDEMPOTENCY_ROUNDS=1000 is the slow
 * mode.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createPerson, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

const ROUNDS = Number(process.env.IDEMPOTENCY_ROUNDS ?? 20);
const AT_ONCE = 50;

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

const invite = (key: string, json: object = { email: "a@example.com", role: "customer" }, as = tenant.key) =>
  api.call("POST", "/members", { as, json, headers: { "idempotency-key": key } });
const countInvitations = async (email: string) => {
  const [row] = await api.sql`select count(*)::int as n from invitations where email = ${email}`;
  return row?.n;
};

test(
  `${AT_ONCE} requests with one key at once, ${ROUNDS} times: one effect each`,
  async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const email = `round-${round}@example.com`;
      const send = () => invite(`round-${round}`, { email, role: "customer" });
      const answers = await Promise.all(Array.from({ length: AT_ONCE }, send));
      const made = answers.filter(({ status }) => status === 201);
      const first = made.filter(({ headers }) => headers.get("idempotent-replayed") === null);
      expect(first.length).toBe(1);
      expect(new Set(made.map(({ body }) => body.id)).size).toBe(1);
      expect(answers.every(({ status }) => status === 201 || status === 409)).toBe(true);
      expect((await send()).headers.get("idempotent-replayed")).toBe("true");
    }
    const counts = await api.sql`
      select count(*)::int as n from invitations where email like 'round-%' group by email`;
    expect(counts.length).toBe(ROUNDS);
    expect(counts.every(({ n }) => n === 1)).toBe(true);
    const [audited] = await api.sql`
      select count(*)::int as n from audit_log where action = 'member.invited' and after->>'email' like 'round-%'`;
    expect(audited?.n).toBe(ROUNDS);
  },
  60_000 + ROUNDS * 1_000,
);

test("the replay is the first answer, to the letter", async () => {
  const first = await invite("replay", { email: "replay@example.com", role: "seller", sellerId: "s" });
  const second = await invite("replay", { email: "replay@example.com", role: "seller", sellerId: "s" });
  expect(second.body).toEqual(first.body);
  expect(second.status).toBe(first.status);
  expect(await countInvitations("replay@example.com")).toBe(1);
});

test("another payload is a 422, whatever its order a same one is none", async () => {
  await invite("payload", { email: "payload@example.com", role: "customer" });
  expect((await invite("payload", { email: "payload@example.com", role: "admin" })).status).toBe(422);
  expect((await invite("payload", { role: "customer", email: "payload@example.com" })).status).toBe(201);
  expect(await countInvitations("payload@example.com")).toBe(1);
});

test("a key belongs to who sent it", async () => {
  const other = await createTenant(api);
  const { token } = await createPerson(api, tenant.tenantId, "admin");
  const json = { email: "shared@example.com", role: "customer" };
  const answers = [
    await invite("shared", json),
    await invite("shared", json, other.key),
    await invite("shared", json, token),
  ];
  expect(answers.map(({ headers }) => headers.get("idempotent-replayed"))).toEqual([null, null, null]);
  expect(await countInvitations("shared@example.com")).toBe(3);
});

test("a failed request frees its key, an expired one is new again", async () => {
  const json = { email: "retry@example.com", role: "customer" };
  await api.sql`alter table audit_log rename to away`;
  const failed = await invite("retry", json);
  await api.sql`alter table away rename to audit_log`;
  expect(failed.status).toBe(500);
  expect(await countInvitations("retry@example.com")).toBe(0);
  expect((await invite("retry", json)).status).toBe(201);
  await api.sql`update idempotency_keys set expires_at = now() - interval '1 second' where key = 'retry'`;
  const again = await invite("retry", json);
  expect(again.headers.get("idempotent-replayed")).toBeNull();
  expect(await countInvitations("retry@example.com")).toBe(2);
});

test("while another one holds the key it is a 409", async () => {
  await api.sql.begin(async (tx) => {
    await tx`lock table invitations in access exclusive mode`;
    const running = invite("held", { email: "held@example.com", role: "customer" });
    await eventually(async () => {
      const [row] =
        await api.sql`select count(*)::int as n from pg_stat_activity where wait_event = 'relation' and datname = current_database()`;
      return row?.n > 0;
    });
    expect((await invite("held", { email: "held@example.com", role: "customer" })).status).toBe(409);
    return [running];
  });
  await eventually(async () => expect(await countInvitations("held@example.com")).toBe(1));
});

test.each(["", " ", "a b", "x".repeat(256), "ä"])("the key %j is a 400", async (key) => {
  const { status } = await invite(key, { email: "bad-key@example.com", role: "customer" });
  expect(status).toBe(400);
});
