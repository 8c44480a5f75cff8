/** Limits hold across processes, by principal or by address and e-mail, with Redis and without it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseRatePolicy } from "../../src/core/rate-limits.ts";
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
const WINDOW_MS = 2_000;

let api: TestApi;

beforeAll(async () => {
  api = await createTestApi({
    RATE_LIMIT_AUTH: "10/1m",
    RATE_LIMIT_STANDARD: `${LIMIT}/2s`,
    RATE_LIMIT_ANALYTICS: "5/1m",
    RATE_LIMIT_EVENTS_WRITE: "20/1m",
    TRUSTED_PROXIES: "127.0.0.0/8",
  });
});
afterAll(cleanup);

const from = (address: string) => ({ "x-forwarded-for": address });
const login = (address: string, email: string, call = api.call) =>
  call("POST", "/auth/login", { json: { email, password: "wrong password" }, headers: from(address) });
const count = (list: { status: number }[], status: number) =>
  list.filter((one) => one.status === status).length;

/** Waits for the start of a window, so that a test of one window does not straddle two. */
async function nextWindow(windowMs: number): Promise<void> {
  await Bun.sleep(windowMs - (Date.now() % windowMs) + 20);
}

test("two processes on one Redis admit the limit and at most 2% more of a burst ten times as large", async () => {
  const servers = await Promise.all([startServer(api.env), startServer(api.env)]);
  const calls = servers.map(({ url }) => callOver(url));
  const { token } = await createPerson(api, (await createTenant(api)).tenantId, "admin");
  for (const call of calls) await call("GET", "/analytics/summary", { as: token });
  await nextWindow(WINDOW_MS);
  const startedAt = Date.now();
  const burst = Array.from({ length: LIMIT * 10 }, (_, n) =>
    (calls[n % 2] ?? api.call)("GET", "/tenants/current", { as: token }),
  );
  const answers = await Promise.all(burst);
  // Should the burst take longer than a window, what the next one has room for is not too much either.
  const windows = Math.max(1, (Date.now() - startedAt) / WINDOW_MS);
  const admitted = count(answers, 200);
  expect(admitted).toBeGreaterThanOrEqual(LIMIT);
  expect(admitted).toBeLessThanOrEqual(LIMIT * windows * 1.02);
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
    for (let n = 0; n < 12; n += 1) answers.push(await login("198.51.100.1", email));
    expect([count(answers, 401), count(answers, 429)]).toEqual([10, 2]);
    expect((await login("198.51.100.2", email)).status).toBe(401);
  });

  test("by e-mail at ten times the limit, whatever the address and however it is spelled", async () => {
    const answers = [];
    for (let n = 0; n < 102; n += 1)
      answers.push(await login(`192.0.2.${n}`, n % 2 ? "By-Mail@Example.com" : "by-mail@example.com"));
    expect([count(answers, 401), count(answers, 429)]).toEqual([100, 2]);
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
  test.each(counters)(
    "%s slides: hammering gets the limit and its rate, and never two limits in one window",
    async (name, make) => {
      const counter = make();
      const policy = { limit: 50, windowMs: 1_000 };
      const admitted: number[] = [];
      const until = Date.now() + 2_500;
      while (Date.now() < until) {
        const decision = await counter(`{slide ${name}}`, policy);
        if (decision.admitted) admitted.push(Date.now());
        await Bun.sleep(2);
      }
      // The window before is known by its sum only, so a burst at its end counts as if it had been spread over it.
      for (const at of admitted)
        expect(admitted.filter((other) => other >= at && other < at + 1_000).length).toBeLessThan(100);
      expect(admitted.length).toBeLessThanOrEqual(50 * (1 + 2.6));
      expect(admitted.length).toBeGreaterThan(90);
    },
  );

  test.each(counters)("%s says when to come back, and means it", async (name, make) => {
    const counter = make();
    const policy = { limit: 5, windowMs: 500 };
    const ask = () => counter(`{wait ${name}}`, policy);
    for (let n = 0; n < 5; n += 1) await ask();
    const refused = await ask();
    expect(refused).toMatchObject({ admitted: false, remaining: 0 });
    expect(refused.resetMs).toBeGreaterThan(0);
    expect(refused.resetMs).toBeLessThanOrEqual(1_000);
    for (let n = 0; n < 3 && !(await ask()).admitted; n += 1) await Bun.sleep((await ask()).resetMs + 5);
    await Bun.sleep(1_050);
    expect((await ask()).admitted).toBe(true);
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
