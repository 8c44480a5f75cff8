/**
 * GET /events/export: complete, safe to open, only the tenant's own, and as slow as its reader
 * without holding it all.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { parse } from "csv-parse/sync";
import {
  createKey,
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup, startServer } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;
beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
});
afterAll(cleanup);

const fetchExport = (query: string, as = tenant.key) => api.call("GET", `/events/export?${query}`, { as });
const AT = Date.parse("2026-09-30T23:00:00Z");

const HOSTILE = [
  "=1+1",
  "+1",
  "-1",
  "@cmd",
  "\tx",
  "\rx",
  'say "hi", twice',
  "two\nlines",
  "ünï,cödé",
  "# count=7",
];

test("CSV cells are never formulas, and read back as they were", async () => {
  const events = HOSTILE.map((text, n) =>
    eventInput({ userId: text, sessionId: text, timestamp: AT + n, properties: { "=key": text, n: -1 } }),
  );
  await api.call("POST", "/events/bulk", { as: tenant.key, json: { events } });
  const { status, headers, body } = await fetchExport("format=csv");
  expect(status).toBe(200);
  expect(headers.get("content-type")).toBe("text/csv");
  // It would take a reading to the end to make one.
  expect(headers.get("etag")).toBeNull();
  expect(headers.get("content-disposition")).toBe('attachment; filename="events.csv"');
  const end = body.lastIndexOf("# count=");
  expect(body.slice(end)).toBe(`# count=${HOSTILE.length}\r\n`);
  const rows: Record<string, string>[] = parse(body.slice(0, end), {
    columns: true,
    record_delimiter: "\r\n",
  });
  expect(rows).toHaveLength(HOSTILE.length);
  for (const row of rows) for (const cell of Object.values(row)) expect(cell).not.toMatch(/^[=+\-@\t\r]/);
  const { body: listed } = await api.call("GET", "/events?limit=100", { as: tenant.key });
  const plain = (text: string | undefined) => text?.replace(/^'(?=[=+\-@\t\r])/, "");
  expect(rows.map(({ id, userId, properties }) => [id, plain(userId), JSON.parse(properties ?? "")])).toEqual(
    listed.items.map((event: Record<string, unknown>) => [event.id, event.userId, event.properties]),
  );
});

test("an NDJSON line is what GET /events shows, under the same filters", async () => {
  for (const filter of [
    "userId=%3D1%2B1",
    "from=2026-09-30T23:00:00.003Z",
    "to=2026-09-30T23:00:00.003Z",
    "type=none",
  ]) {
    const { body } = await fetchExport(filter);
    const lines = body
      .trimEnd()
      .split("\n")
      .map((line: string) => JSON.parse(line));
    const { body: listed } = await api.call("GET", `/events?limit=100&${filter}`, { as: tenant.key });
    expect(lines).toEqual([...listed.items, { count: listed.items.length }]);
  }
});

test("what was stored before appears exactly once, whatever is stored meanwhile", async () => {
  const { tenantId, key } = await createTenant(api);
  const store = async (count: number, secondsLater: number) => {
    const rows = await api.sql<{ id: string }[]>`
      insert into events (tenant_id, ts, id, batch_id, received_at, type, session_id)
      select ${tenantId}, '2026-09-30T22:00:00Z'::timestamptz + (n + ${secondsLater}::int) * interval '1 second',
        gen_random_uuid(), gen_random_uuid(), now(), 'view', 's'
      from generate_series(1, ${count}::int) n returning id`;
    return rows.map(({ id }) => id);
  };
  // Some pages, two events an instant.
  const before = new Set([...(await store(1_000, 0)), ...(await store(1_000, 0))]);
  const response = await api.app.request("/events/export", { headers: { authorization: `Bearer ${key}` } });
  let text = "";
  for await (const chunk of response.body ?? []) {
    // Late ones among all that was stored, and newer ones.
    if (text === "") for (const secondsLater of [0, 500, 2_000]) await store(300, secondsLater);
    text += new TextDecoder().decode(chunk);
  }
  const lines: { id: string; count?: number }[] = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines.pop()?.count).toBe(lines.length);
  const given = lines.map(({ id }) => id);
  expect(new Set(given).size).toBe(given.length);
  expect(new Set(given).intersection(before)).toEqual(before);
});

test("belongs to its tenant, and to who may read events", async () => {
  const other = await createTenant(api);
  expect((await fetchExport("", other.key)).body).toBe('{"count":0}\n');
  expect((await fetchExport("format=csv", other.key)).body).toEndWith(",context,voidedAt\r\n# count=0\r\n");
  const reader = await createKey(api, tenant.tenantId, ["events:read"]);
  expect((await fetchExport("", reader)).status).toBe(200);
  for (const as of [
    await createKey(api, tenant.tenantId, ["events:write", "analytics:read"]),
    (await createPerson(api, tenant.tenantId, "customer")).token,
    (await createPerson(api, tenant.tenantId, "seller")).token,
  ])
    expect((await fetchExport("", as)).status).toBe(403);
});

test("a slow reader is not cut off by the deadline of requests", async () => {
  const { tenantId, key } = await createTenant(api);
  await api.sql`
    insert into events (tenant_id, ts, id, batch_id, received_at, type, session_id, properties)
    select ${tenantId}, '2026-09-30T23:00:00Z', gen_random_uuid(), gen_random_uuid(), now(), 'view', 's',
      jsonb_build_object('text', repeat('x', 8000))
    from generate_series(1, 4000)`;
  const server = await startServer({ ...api.env, REQUEST_TIMEOUT_MS: "1000" });
  const headers = { authorization: `Bearer ${key}` };
  const response = await fetch(`${server.url}/events/export`, { headers });
  const startedAt = performance.now();
  let bytes = 0;
  let tail = "";
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    tail = (tail + new TextDecoder().decode(chunk)).slice(-40);
    // This tests a slow reader: some three seconds for all.
    if (performance.now() - startedAt < 3_000) await Bun.sleep(50);
  }
  expect(performance.now() - startedAt).toBeGreaterThan(2_000);
  expect(bytes).toBeGreaterThan(30e6);
  expect(tail).toEndWith('{"count":4000}\n');
}, 60_000);

/**
 * Enough that holding it all would show: two exports of 150,000 events of about a kilobyte, and one
 * that nobody reads.
 */
const MANY = 150_000;
const EXPORTS = 2;
/** Bun lets garbage of some 130 MB gather, however much passes through. */
const MAX_GROWTH_MB = 200;

test("a large export is whole, and its memory is that of a page", async () => {
  const { tenantId, key } = await createTenant(api);
  await api.sql`
    insert into events (tenant_id, ts, id, batch_id, received_at, type, product_id, session_id, properties)
    select ${tenantId}, ts, (lpad(to_hex((extract(epoch from ts) * 1000)::bigint), 12, '0') || '70008000' ||
        lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(), ts, 'view', 'p', 's', jsonb_build_object('text', repeat('x', 700))
    from (select n, '2026-09-30T23:00:00Z'::timestamptz + (n / 50) * interval '1 second' as ts
      from generate_series(1, ${MANY}::int) n) made`;
  // As autovacuum would have done by then: without statistics Postgres sorts all that is left for
  // each page.
  await api.sql`analyze events`;
  const server = await startServer(api.env);
  const rssMb = async () => {
    const text = await Bun.file(`/proc/${server.pid}/status`).text();
    return Number(/VmRSS:\s+(\d+)/.exec(text)?.[1]) / 1024;
  };
  const open = () => fetch(`${server.url}/events/export`, { headers: { authorization: `Bearer ${key}` } });
  // A download that is begun and then not read must not make the server read ahead.
  const idle = await open();
  const idleReader = idle.body?.getReader();
  await idleReader?.read();
  const before = await rssMb();
  let peak = before;
  let bytes = 0;
  let lines = 0;
  let tail = "";
  const decoder = new TextDecoder();
  for (let n = 0; n < EXPORTS; n += 1)
    for await (const chunk of (await open()).body ?? []) {
      bytes += chunk.byteLength;
      const text = decoder.decode(chunk, { stream: true });
      lines += text.split("\n").length - 1;
      tail = (tail + text).slice(-40);
      if (lines % 20 === 0) peak = Math.max(peak, await rssMb());
    }
  console.log(
    `${lines} lines, ${Math.round(bytes / 1e6)} MB, resident ${Math.round(before)} MB, at most ${Math.round(peak)} MB`,
  );
  expect(lines).toBe(EXPORTS * (MANY + 1));
  expect(tail).toEndWith(`{"count":${MANY}}\n`);
  expect(bytes).toBeGreaterThan((MAX_GROWTH_MB + 50) * 1e6);
  expect(peak - before).toBeLessThan(MAX_GROWTH_MB);
  await idleReader?.cancel();
  expect((await fetch(`${server.url}/health/live`)).status).toBe(200);
}, 120_000);

test("an export that breaks off has no count", async () => {
  const { tenantId, key } = await createTenant(api);
  await api.sql`
    insert into events (tenant_id, ts, id, batch_id, received_at, type, session_id)
    select ${tenantId}, '2026-09-30T23:00:00Z', gen_random_uuid(), gen_random_uuid(), now(), 'view', 's'
    from generate_series(1, 2000)`;
  const response = await api.app.request("/events/export", { headers: { authorization: `Bearer ${key}` } });
  const reader = response.body?.getReader();
  const first = new TextDecoder().decode((await reader?.read())?.value);
  expect(first.trimEnd().split("\n").length).toBeLessThan(2_000);
  await api.sql`alter table events rename to events_away`;
  const rest = (async () => {
    for (let text = ""; ; ) {
      const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
      if (done) return text;
      text += new TextDecoder().decode(value);
    }
  })();
  expect(await rest.catch(() => "broken")).toBe("broken");
  await api.sql`alter table events_away rename to events`;
});
