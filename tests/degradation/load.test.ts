/**
 * The ladder: stale, then coarser, then refusals by priority, ingestion last; up at once and down
 * step by step.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createApp } from "../../src/app.ts";
import { encodeEntry, makeEntry, parseEntry } from "../../src/cache/entry.ts";
import { PRIORITIES, type Priority } from "../../src/core/priority.ts";
import { keys } from "../../src/redis/keys.ts";
import { createLoadMonitor, LOAD_LEVELS } from "../../src/resilience/load-level.ts";
import { createReadGuard } from "../../src/resilience/read-guard.ts";
import { createTenant, createTestApi, eventInput, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually } from "../harness.ts";

describe("the load level", () => {
  const thresholds = { loopDelayMs: 50, inFlight: 100 };
  const monitor = (signals: { delayMs: number; pressure: number }) =>
    createLoadMonitor(thresholds, {
      readPressure: () => signals.pressure,
      loopDelayMs: () => signals.delayMs,
    });

  test("goes a step up with each doubling of any signal, and stays at the top", () => {
    for (const [pressure, level] of [
      [0.99, "normal"],
      [1, "stale"],
      [2, "coarse"],
      [4, "refuse_low"],
      [8, "refuse_normal"],
      [16, "refuse_high"],
      [32, "refuse_all"],
      [1e9, "refuse_all"],
    ] as const) {
      const load = monitor({ delayMs: 0, pressure });
      load.runOnce();
      expect(load.level()).toBe(level);
    }
    const busy = monitor({ delayMs: 0, pressure: 0 });
    const ends = Array.from({ length: 200 }, () => busy.begin());
    busy.runOnce();
    expect(busy.level()).toBe("coarse");
    for (const end of ends) end();
    expect(busy.signals().inFlight).toBe(0);
  });

  test("comes down a step at a time, and not while pressure is near the threshold", () => {
    const signals = { delayMs: 0, pressure: 9 };
    const load = monitor(signals);
    load.runOnce();
    signals.pressure = 7.5;
    for (let samples = 0; samples < 20; samples += 1) load.runOnce();
    expect(load.level()).toBe("refuse_normal");
    signals.pressure = 0;
    const seen = new Set<string>();
    for (let samples = 0; samples < 20; samples += 1) {
      load.runOnce();
      seen.add(load.level());
    }
    expect([...seen]).toEqual(["refuse_normal", "refuse_low", "coarse", "stale", "normal"]);
  });

  test("refuses no priority before those below it", () => {
    const signals = { delayMs: 0, pressure: 0 };
    const load = monitor(signals);
    for (const [step] of LOAD_LEVELS.entries()) {
      signals.pressure = step === 0 ? 0 : 2 ** (step - 1);
      load.runOnce();
      const refused = PRIORITIES.map((priority) => load.refuses(priority));
      expect(refused).toEqual(refused.toSorted((a, b) => Number(b) - Number(a)));
      expect(refused.filter(Boolean).length).toBe(Math.max(0, step - 2));
    }
  });
});

describe("the read guard", () => {
  const probe = async () => "there";
  const one = { tenantId: "one" };

  test("admits the more reads the higher their priority", async () => {
    const guard = createReadGuard({ maxReads: 1, probe });
    const gate = Promise.withResolvers<void>();
    const admitted: Record<string, number> = {};
    for (const priority of PRIORITIES) {
      admitted[priority] = 0;
      for (let tries = 0; tries < 100; tries += 1) {
        admitted[priority] += 1;
        guard
          .run(() => gate.promise, { tenantId: "one", priority })
          .catch(() => {
            admitted[priority] = (admitted[priority] ?? 0) - 1;
          });
      }
    }
    await Bun.sleep(0);
    // Six run and keep their places. Of those that wait, the lower ones have given theirs to the
    // higher ones.
    expect(admitted).toEqual({ low: 4, normal: 2, high: 0, critical: 32 });
    // One tenant's reads count only so far that answers get coarser.
    expect(guard.pressure()).toBe(2);
    gate.resolve();
    await eventually(() => expect(guard.pressure()).toBe(0));
    expect(await guard.run(async () => "again", one)).toBe("again");
  });

  test("starts the higher priority first, and none of who has its share while another waits", async () => {
    const guard = createReadGuard({ maxReads: 100, running: 2, probe });
    const started: string[] = [];
    const ends: (() => void)[] = [];
    const read = (tenantId: string, priority: Priority) =>
      guard.run(
        () => {
          started.push(`${tenantId} ${priority}`);
          return new Promise<void>((resolve) => ends.push(resolve));
        },
        { tenantId, priority },
      );
    const reads = [
      read("one", "normal"),
      read("one", "normal"),
      read("one", "low"),
      read("one", "critical"),
      read("one", "critical"),
      read("two", "low"),
      read("two", "normal"),
    ];
    for (let turn = 0; turn < reads.length; turn += 1) {
      ends[turn]?.();
      await eventually(() => expect(started.length).toBe(Math.min(turn + 3, reads.length)));
    }
    await Promise.all(reads);
    expect(started.slice(2)).toEqual(["two normal", "one critical", "two low", "one critical", "one low"]);
  });

  test("refuses who fills the line, and not another tenant", async () => {
    const guard = createReadGuard({ maxReads: 1, running: 1, probe });
    const gate = Promise.withResolvers<void>();
    const ask = (tenantId: string, priority: Priority) =>
      guard
        .run(() => gate.promise, { tenantId, priority })
        .then(
          () => "answered",
          (error) => error.code,
        );
    const flood = Array.from({ length: 100 }, () => ask("one", "critical"));
    const others = ["two", "three"].flatMap((tenantId) => [ask(tenantId, "normal"), ask(tenantId, "normal")]);
    gate.resolve();
    const outcomes = Map.groupBy(await Promise.all(flood), (outcome) => outcome);
    expect([outcomes.get("answered")?.length, outcomes.get("overloaded")?.length]).toEqual([32, 68]);
    expect(await Promise.all(others)).toEqual(["answered", "answered", "answered", "answered"]);
  });

  test("opens when Postgres is away, not for what a client did, and closes when it is back", async () => {
    const states: string[] = [];
    const guard = createReadGuard({ maxReads: 100, probe, onStateChange: (state) => states.push(state) });
    const fail = (error: Error) => guard.run(() => Promise.reject(error), one).catch((caught) => caught);
    for (let times = 0; times < 10; times += 1) {
      await fail(new Error("a defect"));
      await fail(Object.assign(new Error("bad text"), { code: "22021" }));
      await fail(Object.assign(new Error("too slow"), { code: "57014" }));
    }
    expect(guard.state()).toBe("closed");
    for (let times = 0; times < 3; times += 1)
      await fail(Object.assign(new Error("refused"), { code: "ECONNREFUSED" }));
    expect(guard.state()).toBe("open");
    let asked = false;
    const refused = await guard.run(async () => (asked = true), one).catch((error) => error);
    expect([refused.code, refused.retryAfterSeconds, asked]).toEqual(["unavailable", 1, false]);
    // After a second, a read starts a background check and is refused all the same; then Postgres
    // is back.
    await eventually(async () => expect(await guard.run(async () => "back", one)).toBe("back"));
    expect(states).toEqual(["open", "half-open", "closed"]);
  });

  test("takes a Postgres that never answers for one that is away", async () => {
    const guard = createReadGuard({ maxReads: 100, probe, deadlineMs: 20 });
    for (let times = 0; times < 3; times += 1)
      expect(await guard.run(() => new Promise(() => {}), one).catch((error) => error.code)).toBe(
        "unavailable",
      );
    expect(guard.state()).toBe("open");
  });
});

describe("requests", () => {
  let api: TestApi;
  let tenant: TestTenant;
  let pressure = 0;
  let app: TestApi["app"];
  let setLevel: (step: number) => void;

  beforeAll(async () => {
    api = await createTestApi();
    tenant = await createTenant(api);
    const { load } = api.deps;
    // The application's own monitor, set by hand: as many requests in flight as the level needs.
    const ends: (() => void)[] = [];
    setLevel = (step) => {
      for (const end of ends.splice(0)) end();
      pressure = step === 0 ? 0 : api.config.load.inFlight * 2 ** (step - 1);
      for (let count = 0; count < pressure; count += 1) ends.push(load.begin());
      for (let samples = 0; samples < 20; samples += 1) load.runOnce();
    };
    app = createApp(api.deps, { ...api.config, version: "test" });
  });
  afterAll(cleanup);

  const ask = (priority: string | null, as = tenant.key, path = "/analytics/summary?days=5&groupBy=hour") =>
    app.request(path, {
      headers: { authorization: `Bearer ${as}`, ...(priority === null ? {} : { "x-priority": priority }) },
    });

  test("are refused by priority, the lowest first, and say when to come back", async () => {
    for (const [step, level] of LOAD_LEVELS.entries()) {
      setLevel(step);
      const statuses = await Promise.all(PRIORITIES.map(async (priority) => (await ask(priority)).status));
      const refused = Math.max(0, step - 2);
      expect([level, ...statuses]).toEqual([
        level,
        ...PRIORITIES.map((_, index) => (index < refused ? 503 : 200)),
      ]);
    }
    const answer = await ask("critical");
    expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
    setLevel(0);
    expect((await ask(null)).status).toBe(200);
  });

  test("for events are refused last, and probes never", async () => {
    const ingest = () =>
      api.call("POST", "/events", { as: tenant.key, json: eventInput(), headers: { "x-priority": "low" } });
    setLevel(LOAD_LEVELS.indexOf("refuse_high"));
    expect((await ingest()).status).toBe(202);
    setLevel(LOAD_LEVELS.indexOf("refuse_all"));
    expect((await ingest()).status).toBe(503);
    for (const path of ["/health", "/health/live", "/ready", "/metrics", "/openapi.json"])
      expect((await app.request(path)).status).toBe(200);
    expect((await ask("low", tenant.key, "/analytics/health")).status).toBe(200);
    setLevel(0);
    expect((await ingest()).status).toBe(202);
  });

  test("get what is at hand, else a coarser series, labelled", async () => {
    const read = async (query: string) =>
      (await api.call("GET", `/analytics/summary?${query}`, { as: tenant.key })).body;
    const { meta: warm } = await read("days=6&groupBy=hour");
    expect(warm.granularity).toBe("hour");
    setLevel(LOAD_LEVELS.indexOf("coarse"));
    expect((await read("days=6&groupBy=hour")).meta).toMatchObject({ granularity: "hour", degraded: false });
    const { series, meta } = await read("days=9&groupBy=hour");
    expect(meta).toMatchObject({
      granularity: "day",
      requestedGranularity: "hour",
      degraded: true,
      reason: "overloaded",
    });
    expect(series.length).toBe(9);
    setLevel(0);
    expect((await read("days=9&groupBy=hour")).meta).toMatchObject({ granularity: "hour", degraded: false });
  });

  test("get no answer older than is tolerated while a coarser one can be computed", async () => {
    const path = "/analytics/summary?days=7&groupBy=hour";
    const shop = await createTenant(api);
    const read = async () => (await ask(null, shop.key, path)).json() as Promise<{ meta: object }>;
    await read();
    const pattern = keys.cacheEntry(shop.tenantId, "analytics:summary:*");
    const key = await eventually(async () => {
      const [found = ""] = await api.deps.redis.keys(pattern);
      return found;
    });
    const entry = parseEntry((await api.deps.redis.get(key)) ?? "");
    if (!entry) throw new Error("the answer was not kept");
    const agoMs = 50 * 60_000;
    const { asOfMs, madeAtMs } = entry;
    const old = { ...entry, asOfMs: asOfMs - agoMs, madeAtMs: madeAtMs - agoMs, freshUntilMs: 0 };
    await api.deps.redis.set(key, encodeEntry(makeEntry(old, entry.content)));
    setLevel(LOAD_LEVELS.indexOf("coarse"));
    // Nothing else is available: an old answer is better than none, and it says its age.
    const away = Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
    for (let times = 0; times < 3; times += 1)
      await api.deps.readGuard.run(() => Promise.reject(away), tenant).catch(() => {});
    const { meta } = (await read()) as { meta: { lagMs: number } };
    expect(meta).toMatchObject({
      cache: "stale",
      reason: "unavailable",
      granularity: "hour",
      degraded: false,
    });
    expect(meta.lagMs).toBeGreaterThanOrEqual(agoMs);
    await eventually(async () =>
      expect((await read()).meta).toMatchObject({ cache: "miss", granularity: "day", degraded: true }),
    );
    setLevel(0);
  });

  test("that take long leave the breaker closed and probes answered", async () => {
    const others = await Promise.all(Array.from({ length: 4 }, () => createTenant(api)));
    await api.sql.begin(async (tx) => {
      await tx`lock table user_daily_stats in access exclusive mode`;
      // As many as there are connections for reads.
      const slow = Array.from({ length: 6 }, (_, n) =>
        Promise.resolve(ask("high", tenant.key, `/analytics/users/u-${n}/summary`)).catch(() => {}),
      );
      await eventually(async () => {
        const [row] = await api.sql`select count(*)::int as n from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock'`;
        return row?.n === slow.length;
      });
      // Credentials that were not checked yet, and probes.
      const statuses = others.map(async ({ key }) => (await ask(null, key, "/cache/stats")).status);
      expect(await Promise.all(statuses)).toEqual([200, 200, 200, 200]);
      expect((await app.request("/ready")).status).toBe(200);
      expect(api.deps.readGuard.state()).toBe("closed");
    });
  }, 20_000);

  test("for the health of analytics don't wait for Postgres", async () => {
    const shop = await createTenant(api);
    const health = async () => (await ask(null, shop.key, "/analytics/health")).json();
    await api.call("POST", "/events", { as: shop.key, json: eventInput() });
    await api.sql`update event_batches set dead_lettered_at = now() where tenant_id = ${shop.tenantId}`;
    expect(await health()).toMatchObject({ lagMs: expect.any(Number), deadLetters: 1 });
    await api.sql.begin(async (tx) => {
      await tx`lock table event_batches in access exclusive mode`;
      const silent = await Promise.race([health(), Bun.sleep(1_500)]);
      expect(silent).toMatchObject({ deadLetters: null });
    });
  });

  test("of a tenant are answered while another floods slow reads", async () => {
    const other = await createTenant(api);
    let flooding = true;
    let refused = 0;
    const slow = () => api.deps.readGuard.run(() => api.deps.db.read`select pg_sleep(0.05)`, other);
    const flood = Array.from({ length: 100 }, async () => {
      while (flooding) {
        await slow().catch(() => {
          refused += 1;
        });
        await Bun.sleep(0);
      }
    });
    await eventually(() => expect(refused).toBeGreaterThan(100));
    for (let days = 100; days < 120; days += 1) {
      for (const path of [`/analytics/summary?days=${days}`, "/products?limit=1"])
        expect([path, (await ask(null, tenant.key, path)).status]).toEqual([path, 200]);
    }
    flooding = false;
    await Promise.all(flood);
  }, 30_000);

  test("that are warm ask Postgres nothing while the breaker is open", async () => {
    const path = "/analytics/retention?period=day";
    expect((await ask(null, tenant.key, path)).status).toBe(200);
    const away = Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
    await api.sql.begin(async (tx) => {
      await tx`lock table user_daily_stats in access exclusive mode`;
      for (let times = 0; times < 3; times += 1)
        await api.deps.readGuard.run(() => Promise.reject(away), tenant).catch(() => {});
      const answered = await Promise.race([ask(null, tenant.key, path), Bun.sleep(8_000)]);
      expect(answered?.status).toBe(200);
    });
    await eventually(async () => {
      expect((await ask(null, tenant.key, "/analytics/summary?days=17")).status).toBe(200);
    });
  }, 20_000);

  test("for events as they are stored are refused at once while the breaker is open", async () => {
    const { body } = await api.call("POST", "/events", { as: tenant.key, json: eventInput() });
    const paths = ["/events", "/events/export", `/events/${body.id}`];
    const statuses = () => Promise.all(paths.map(async (path) => (await ask(null, tenant.key, path)).status));
    expect(await statuses()).toEqual([200, 200, 200]);
    const away = Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
    for (let times = 0; times < 3; times += 1)
      await api.deps.readGuard.run(() => Promise.reject(away), tenant).catch(() => {});
    expect(await statuses()).toEqual([503, 503, 503]);
    await eventually(async () => expect(await statuses()).toEqual([200, 200, 200]));
  });
});
