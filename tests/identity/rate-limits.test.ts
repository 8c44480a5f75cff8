/**
 * Limits hold across processes, by principal or by address and e-mail, with Redis and without it.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Role } from "../../src/core/principal.ts";
import { parseRatePolicy } from "../../src/core/rate-limits.ts";
import { keys } from "../../src/redis/keys.ts";
import {
  createLocalRateCounter,
  createRedisRateCounter,
  type RateCounter,
} from "../../src/redis/rate-limit.ts";
import {
  callOver,
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  type TestApi,
} from "../factories.ts";
import { cleanup, eventually, startServer } from "../harness.ts";

const LIMIT = 200;

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi({
    RATE_LIMIT_AUTH: "10/1m",
    RATE_LIMIT_STANDARD: `${LIMIT}/1m`,
    RATE_LIMIT_ANALYTICS: "5/1m",
    RATE_LIMIT_EVENTS_WRITE: "20/1m",
    TRUSTED_PROXIES: "127.0.0.0/8",
  });
});
afterAll(cleanup);

const from = (address: string) => ({ "x-forwarded-for": address });
const login = (address: string, email: string, call = api.call) =>
  call("POST", "/auth/login", { json: { email, password: "wrong password" }, headers: from(address) });
/** Counted like signing in, and not delayed after wrong passwords. */
const reset = (address: string, email: string) =>
  api.call("POST", "/auth/password-reset", { json: { email }, headers: from(address) });
const count = (list: { status: number }[], status: number) =>
  list.filter((one) => one.status === status).length;

test("two processes on one Redis admit the limit and at most 2% more of a burst ten times as large", async () => {
  const servers = await Promise.all([startServer(api.env), startServer(api.env)]);
  const calls = servers.map(({ url }) => callOver(url));
  const { token } = await createPerson(api, (await createTenant(api)).tenantId, "admin");
  for (const call of calls) await call("GET", "/analytics/summary", { as: token });
  const burst = Array.from({ length: LIMIT * 10 }, (_, n) =>
    (calls[n % 2] ?? api.call)("GET", "/tenants/current", { as: token }),
  );
  const answers = await Promise.all(burst);
  const admitted = count(answers, 200);
  expect(admitted).toBeGreaterThanOrEqual(LIMIT);
  expect(admitted).toBeLessThanOrEqual(LIMIT * 1.02);
  expect(admitted + count(answers, 429)).toBe(LIMIT * 10);
}, 30_000);

test("the headers say the policy, what is left, and when to come back", async () => {
  const { key } = await createTenant(api);
  for (let n = 1; n <= 5; n += 1) {
    const { status, headers } = await api.call("GET", "/analytics/summary", { as: key });
    expect(status).toBe(200);
    expect(headers.get("ratelimit-policy")).toBe('"analytics";q=5;w=60');
    expect(headers.get("ratelimit")).toMatch(new RegExp(`^"analytics";r=${5 - n};t=\\d+$`));
  }
  const { status, headers, body } = await api.call("GET", "/analytics/summary", { as: key });
  expect([status, body.code]).toEqual([429, "rate_limited"]);
  expect(headers.get("ratelimit")).toMatch(/^"analytics";r=0;t=\d+$/);
  expect(Number(headers.get("retry-after"))).toBeGreaterThan(0);
});

test("each principal and each policy has a count of its own, refused requests have none", async () => {
  const { tenantId, key } = await createTenant(api);
  const publishable = await createKey(api, tenantId, ["events:write"]);
  const send = (as: string) => api.call("POST", "/events", { as, json: eventInput() });
  const forbidden = await Promise.all(
    Array.from({ length: 30 }, () => api.call("GET", "/analytics/summary", { as: publishable })),
  );
  expect(count(forbidden, 403)).toBe(30);
  const answers = await Promise.all(Array.from({ length: 30 }, () => send(publishable)));
  expect([count(answers, 202), count(answers, 429)]).toEqual([20, 10]);
  expect((await send(key)).status).toBe(202);
  expect((await api.call("GET", "/analytics/summary", { as: key })).status).toBe(200);
});

describe("who acts for a seller", () => {
  let small: TestApi;
  let tenantId: string;
  let key: string;

  beforeAll(async () => {
    small = await createTestApi({ RATE_LIMIT_STANDARD: "3/1m", RATE_LIMIT_IMPORT: "2/1m" });
  });
  beforeEach(async () => {
    ({ tenantId, key } = await createTenant(small));
  });

  const read = async (as: string, sellerId?: string) => {
    const headers: Record<string, string> = sellerId === undefined ? {} : { "x-seller-id": sellerId };
    return (await small.call("GET", "/tenants/current", { as, headers })).status;
  };
  const personOf = async (role: Role, of = tenantId) => (await createPerson(small, of, role)).token;

  test("takes from that seller's limit, whoever it is", async () => {
    const [first, second, seller] = [
      await personOf("admin"),
      await personOf("admin"),
      await personOf("seller"),
    ];
    expect([await read(first, "seller-1"), await read(key, "seller-1"), await read(seller)]).toEqual([
      200, 200, 200,
    ]);
    for (const as of [first, second, key, seller]) expect(await read(as, "seller-1")).toBe(429);
    expect([await read(second, "s-2"), await read(second)]).toEqual([200, 200]);
    const { tenantId: other } = await createTenant(small);
    expect(await read(await personOf("admin", other), "seller-1")).toBe(200);
  });

  test("takes from its own limit as well, so that ever new sellers are no way past it", async () => {
    for (const as of [key, await personOf("admin")]) {
      const statuses = [];
      for (let n = 0; n < 10; n += 1) statuses.push(await read(as, `seller-${n}`));
      expect([...statuses, await read(as)]).toEqual([...Array(3).fill(200), ...Array(8).fill(429)]);
    }
    const imports = Array.from({ length: 6 }, (_, n) =>
      small.call("POST", "/products/import", {
        as: key,
        body: "id,name,price\n",
        headers: { "content-type": "text/csv", "x-seller-id": `importer-${n}` },
      }),
    );
    expect(count(await Promise.all(imports), 429)).toBe(4);
    // No keys of sellers that were never counted.
    expect((await small.deps.redis.keys(`{${tenantId}}:seller:*`)).length).toBeLessThanOrEqual(3 + 3 + 2);
  });
});

describe("signing in is counted", () => {
  test("by address, whatever the e-mail", async () => {
    const answers = [];
    for (let n = 0; n < 12; n += 1) answers.push(await login("203.0.113.1", `by-address-${n}@example.com`));
    expect([count(answers, 401), count(answers, 429)]).toEqual([10, 2]);
    expect((await login("203.0.113.2", "by-address-1@example.com")).status).toBe(401);
  });

  test("so that a stranger who has used up its tries keeps nobody else from that e-mail", async () => {
    const email = "victim@example.com";
    const answers = [];
    for (let n = 0; n < 12; n += 1) answers.push(await reset("198.51.100.1", email));
    expect([count(answers, 202), count(answers, 429)]).toEqual([10, 2]);
    expect((await login("198.51.100.2", email)).status).toBe(401);
  });

  test("by e-mail at ten times the limit, whatever the address and however it is spelled", async () => {
    const answers = [];
    for (let n = 0; n < 102; n += 1)
      answers.push(await reset(`192.0.2.${n}`, n % 2 ? "By-Mail@Example.com" : "by-mail@example.com"));
    expect([count(answers, 202), count(answers, 429)]).toEqual([100, 2]);
  }, 30_000);

  test("and the headers tell of the count that will refuse first", async () => {
    const left = [];
    for (let n = 0; n < 4; n += 1) {
      const { headers } = await login("203.0.113.77", `headers-${n}@example.com`);
      left.push(/;r=(\d+);/.exec(headers.get("ratelimit") ?? "")?.[1]);
    }
    expect(left).toEqual(["9", "8", "7", "6"]);
  });

  test("by the /64 of an IPv6 address", async () => {
    const answers = [];
    for (let n = 0; n < 12; n += 1)
      answers.push(await login(`2001:db8:1:2:${n}::${n}`, `v6-${n}@example.com`));
    expect([count(answers, 401), count(answers, 429)]).toEqual([10, 2]);
    expect((await login("2001:db8:1:3::1", "v6@example.com")).status).toBe(401);
  });

  test("by the socket's address where no proxy is trusted, whatever a header says", async () => {
    const { url } = await startServer({ ...api.env, TRUSTED_PROXIES: "", RATE_LIMIT_AUTH: "10/1h" });
    const answers = [];
    for (let n = 0; n < 12; n += 1) {
      const address = `192.0.2.${n}`;
      const headers = {
        ...from(address),
        "cf-connecting-ip": address,
        "x-real-ip": address,
        forwarded: `for=${address}`,
      };
      const json = { email: `spoofed-${n}@example.com`, password: "wrong password" };
      answers.push(await callOver(url)("POST", "/auth/login", { json, headers }));
    }
    expect([count(answers, 401), count(answers, 429)]).toEqual([10, 2]);
  });
});

describe("without Redis", () => {
  test.each(["kill", "pause"] as const)(
    "(%s) a count of the process takes over, and a metric says so",
    async (fault) => {
      const away = await createTestApi({ RATE_LIMIT_STANDARD: "20/1m" });
      const { key } = await createTenant(away);
      const read = () => away.call("GET", "/tenants/current", { as: key });
      const fallbacks = async () =>
        Number(
          /redis_fallbacks_total\{operation="rate_limit"\} (\d+)/.exec(
            (await away.call("GET", "/metrics")).body,
          )?.[1] ?? 0,
        );
      for (let n = 0; n < 5; n += 1) expect((await read()).status).toBe(200);
      expect(await fallbacks()).toBe(0);
      if (fault === "kill") await away.redis.kill();
      else away.redis.pause();
      const startedAt = performance.now();
      const answers = await Promise.all(Array.from({ length: 30 }, read));
      expect(performance.now() - startedAt).toBeLessThan(2_000);
      expect([count(answers, 200), count(answers, 429)]).toEqual([20, 10]);
      expect(await fallbacks()).toBe(30);
      if (fault === "kill") await away.redis.start();
      else away.redis.resume();
      await eventually(async () => {
        const before = await fallbacks();
        await read();
        expect(await fallbacks()).toBe(before);
      });
    },
    30_000,
  );
});

describe("a count", () => {
  const counters: [string, () => RateCounter][] = [
    ["in Redis", () => createRedisRateCounter(api.deps.redis)],
    ["of one process", createLocalRateCounter],
  ];
  test.each(counters)("%s never admits more than the limit in any window", async (name, make) => {
    const counter = make();
    const policy = { limit: 50, windowMs: 1_000 };
    // From late in a second of the clock on: a count by whole seconds would see two bursts in two
    // of them.
    await Bun.sleep(1_000 - (Date.now() % 1_000) + 700);
    const admitted: { from: number; to: number }[] = [];
    const until = performance.now() + 3_500;
    while (performance.now() < until) {
      const from = performance.now();
      if ((await counter(`{slide ${name}}`, policy)).admitted) admitted.push({ from, to: performance.now() });
      await Bun.sleep(2);
    }
    // Only what was asked and answered inside a window counts, so that a slow machine can't fail
    // this test.
    for (const { from } of admitted)
      expect(admitted.filter((one) => one.from >= from && one.to < from + 1_000).length).toBeLessThanOrEqual(
        50,
      );
    expect(admitted.length).toBeGreaterThan(100);
  });

  test.each(counters)("%s says what is left and when to come back, and means it", async (name, make) => {
    const counter = make();
    const policy = { limit: 5, windowMs: 1_000 };
    const ask = () => counter(`{wait ${name}}`, policy);
    const startedAt = performance.now();
    for (let left = 4; left >= 0; left -= 1) {
      const { admitted, remaining, resetMs } = await ask();
      expect([admitted, remaining]).toEqual([true, left]);
      expect(resetMs).toBeLessThanOrEqual(1_000);
    }
    const { admitted, remaining, resetMs } = await ask();
    expect([admitted, remaining]).toEqual([false, 0]);
    expect(resetMs).toBeGreaterThan(0);
    expect(resetMs).toBeLessThanOrEqual(1_000);
    await Bun.sleep(resetMs + 1);
    expect((await ask()).admitted).toBe(true);
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(1_000);
  });

  test("in Redis is small, expires, and survives a clock that was set back", async () => {
    const counter = createRedisRateCounter(api.deps.redis);
    const policy = { limit: 1_000_000, windowMs: 1_000 };
    const key = keys.rateLimit("{small}");
    const until = performance.now() + 2_200;
    while (performance.now() < until) await counter("{small}", policy);
    expect(await api.deps.redis.llen(key)).toBeLessThanOrEqual(21 * 2);
    expect(await api.deps.redis.pttl(key)).toBeLessThanOrEqual(1_000);
    const tomorrow = (Date.now() + 86_400_000) * 1_000;
    await api.deps.redis.del(key);
    await api.deps.redis.rpush(key, tomorrow, 1_000_000);
    expect(await counter("{small}", policy)).toMatchObject({ admitted: true, remaining: 999_999 });
  });
});

test.each([
  ["100/1s", { limit: 100, windowMs: 1_000 }],
  ["300/1m", { limit: 300, windowMs: 60_000 }],
  ["5/2h", { limit: 5, windowMs: 7_200_000 }],
  ["off", null],
  ["0/1s", undefined],
  ["1/0s", undefined],
  ["-1/1s", undefined],
  ["1/s", undefined],
  ["1/1d", undefined],
  ["1e3/1s", undefined],
  ["", undefined],
])("%j is the policy %j", (text, policy) => {
  expect(parseRatePolicy(text)).toEqual(policy as never);
});
