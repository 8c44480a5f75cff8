/** Exports hold a page each, are bounded by tenant and process, and end when nobody reads them. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { newId } from "../../src/core/ids.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, onCleanup, startServer } from "../harness.ts";

let api: TestApi;
let tenant: TestTenant;

beforeAll(async () => {
  api = await createTestApi({ EXPORT_MAX_CONNECTIONS: "3", EXPORT_MAX_CONNECTIONS_PER_TENANT: "2" });
  await api.deps.partitions.ensure([Date.now()]);
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const KIB = 1024;
/** The largest text that a page of rows becomes, the last row included. */
const PAGE_BYTES = 2 * 512 * KIB;

/** Events of some 30 KB, of which 500 would be 15 MB. */
const storeEvents = (tenantId: string, count: number) => api.sql`
  insert into events (tenant_id, ts, id, batch_id, received_at, type, session_id, properties)
  select ${tenantId}, now() - n * interval '1 second', gen_random_uuid(), gen_random_uuid(), now(), 'view', 's',
    jsonb_build_object('text', repeat('x', 30000))
  from generate_series(1, ${count}::int) n`;
const storeProducts = (tenantId: string, count: number) => api.sql`
  insert into products (tenant_id, id, name, description, price, status, created_at, updated_at)
  select ${tenantId}, 'p' || n, 'name', repeat('y', 5000), 1, 'active', now(), now() from generate_series(1, ${count}::int) n`;

/** A finished import with refused rows. */
async function storeErrors(tenantId: string, count: number): Promise<string> {
  const answer = await api.call("POST", "/products/import", {
    as: tenant.key,
    body: "id,name,price\n1,one,1\n",
    headers: { "content-type": "text/csv" },
  });
  const { importId } = answer.body;
  await api.sql`
    insert into product_import_errors (tenant_id, import_id, line, path, message)
    select ${tenantId}, ${importId}, n, 'price', repeat('z', 500) from generate_series(1, ${count}::int) n`;
  return importId;
}

const gaugeOf = async (name: string) =>
  Number(new RegExp(`^${name} (\\d+)`, "m").exec(await api.deps.metrics.registry.metrics())?.[1]);
const openNow = () => gaugeOf("footfall_downloads_open");

/** Begins a download, and reads none of it. */
const begin = (path: string, as = tenant.key) =>
  api.app.request(path, { headers: { authorization: `Bearer ${as}` } });

describe("a download", () => {
  test("comes in pages of bytes, whatever is stored in a row, and loses none of them", async () => {
    await storeEvents(tenant.tenantId, 200);
    // Numbers of few bytes that are written with 300 digits.
    await api.sql`update events set properties = (select jsonb_build_object('n', jsonb_agg(1e300::numeric)) from generate_series(1, 1000))
      where tenant_id = ${tenant.tenantId} and ts < now() - interval '150 seconds'`;
    await api.sql`update events set properties = null where tenant_id = ${tenant.tenantId} and ts > now() - interval '20 seconds'`;
    await storeProducts(tenant.tenantId, 2_000);
    const importId = await storeErrors(tenant.tenantId, 5_000);
    for (const [path, lines] of [
      ["/events/export", 201],
      ["/events/export?format=csv", 202],
      ["/products/export", 2_001],
      [`/products/imports/${importId}/errors`, 5_001],
    ] as const) {
      let largest = 0;
      let seen = 0;
      let bytes = 0;
      for await (const chunk of (await begin(path)).body ?? []) {
        largest = Math.max(largest, chunk.byteLength);
        bytes += chunk.byteLength;
        seen += Buffer.from(chunk).toString().split("\n").length - 1;
      }
      expect([path, seen]).toEqual([path, lines]);
      expect(bytes).toBeGreaterThan(2 * PAGE_BYTES);
      expect(largest).toBeLessThan(PAGE_BYTES);
    }
    expect(await openNow()).toBe(0);
  });

  test("counts by tenant and by process, whatever is exported, and beyond that is a 503 with Retry-After", async () => {
    const importId = await storeErrors(tenant.tenantId, 1);
    const other = await createTenant(api);
    const all = [
      "/events/export",
      "/events/export?format=csv",
      "/products/export",
      `/products/imports/${importId}/errors`,
    ];
    const held = await Promise.all([begin("/events/export"), begin("/products/export")]);
    expect(held.map(({ status }) => status)).toEqual([200, 200]);
    for (const path of all) {
      const { status, body, headers } = await api.call("GET", path, { as: tenant.key });
      expect([path, status, body.code]).toEqual([path, 503, "overloaded"]);
      expect(headers.get("retry-after")).toBe("5");
      expect(body.detail).toContain("tenant");
    }
    // Nothing of a HEAD is sent, so it takes no place.
    const head = { method: "HEAD", headers: { authorization: `Bearer ${other.key}` } };
    for (let n = 0; n < 4; n += 1) expect((await api.app.request("/events/export", head)).status).toBe(200);
    held.push(await begin("/products/export", other.key));
    const { status, body } = await api.call("GET", "/events/export", { as: other.key });
    expect([status, body.detail]).toEqual([503, expect.stringContaining("process")]);
    expect(await openNow()).toBe(3);
    await held.pop()?.body?.cancel();
    expect((await api.call("GET", "/events/export", { as: other.key })).status).toBe(200);
    // Read to its end, and left.
    await held[0]?.text();
    await held[1]?.body?.cancel();
    expect(await openNow()).toBe(0);
  });

  test("that can't begin, or breaks off, gives its place back", async () => {
    for (let n = 0; n < 4; n += 1)
      expect((await begin(`/products/imports/${newId()}/errors`)).status).toBe(404);
    await storeEvents(tenant.tenantId, 200);
    const answer = await begin("/events/export");
    const reader = answer.body?.getReader();
    await reader?.read();
    await api.sql`alter table events rename to events_away`;
    const rest = (async () => {
      while (!(await reader?.read())?.done);
      return "whole";
    })();
    expect(await rest.catch(() => "broken")).toBe("broken");
    expect((await begin("/events/export")).status).toBe(500);
    await api.sql`alter table events_away rename to events`;
    expect(await openNow()).toBe(0);
  });
});

describe("clients that do not read", () => {
  const SOCKETS = 60;

  /** Asks over a socket of its own, whose answer is left in it. */
  async function ask(
    url: string,
    path: string,
    key: string,
  ): Promise<{ socket: Socket; closed: () => boolean }> {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port) });
    let isClosed = false;
    socket.on("close", () => {
      isClosed = true;
    });
    socket.on("error", () => {});
    onCleanup(async () => void socket.destroy());
    socket.pause();
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${key}\r\n\r\n`);
    return { socket, closed: () => isClosed };
  }

  async function gauges(url: string) {
    const text = await (await fetch(`${url}/metrics`)).text();
    const read = (name: string) => Number(new RegExp(`^${name} (\\d+)`, "m").exec(text)?.[1]);
    return {
      open: read("footfall_downloads_open"),
      untaken: read("footfall_download_untaken_bytes"),
      cutOff: read("footfall_downloads_cut_off_total"),
      residentMb: read("process_resident_memory_bytes") / 1e6,
    };
  }

  test("make a process hold a page each, however much there is", async () => {
    await storeEvents(tenant.tenantId, 600);
    const { url } = await startServer({
      ...api.env,
      EXPORT_MAX_CONNECTIONS: String(SOCKETS),
      EXPORT_MAX_CONNECTIONS_PER_TENANT: String(SOCKETS),
    });
    await (
      await fetch(`${url}/events/export`, { headers: { authorization: `Bearer ${tenant.key}` } })
    ).text();
    const before = await gauges(url);
    for (let n = 0; n < SOCKETS; n += 1) await ask(url, "/events/export", tenant.key);
    // Until the kernel's buffers are full and no further page is made.
    const held = await eventually(
      async () => {
        const first = await gauges(url);
        await Bun.sleep(300);
        const then = await gauges(url);
        return first.open === SOCKETS && first.untaken > 0 && first.untaken === then.untaken ? then : null;
      },
      { timeoutMs: 60_000 },
    );
    const grownMb = Math.round(held.residentMb - before.residentMb);
    console.log(
      `${SOCKETS} unread exports of 18 MB: ${Math.round(held.untaken / KIB)} KB untaken, resident ${grownMb} MB more`,
    );
    expect(held.untaken).toBeLessThan(SOCKETS * PAGE_BYTES);
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
  }, 90_000);

  test("are cut off after a time, and their place is another one's; who reads slowly is not", async () => {
    await storeEvents(tenant.tenantId, 600);
    const { url } = await startServer({
      ...api.env,
      EXPORT_MAX_CONNECTIONS_PER_TENANT: "2",
      EXPORT_STALL_MS: "5000",
    });
    const headers = { authorization: `Bearer ${tenant.key}` };
    const slow = await fetch(`${url}/events/export`, { headers });
    const unread = await ask(url, "/events/export", tenant.key);
    await eventually(async () => expect((await gauges(url)).open).toBe(2));
    expect((await fetch(`${url}/events/export`, { headers })).status).toBe(503);
    let tail = "";
    for await (const chunk of slow.body ?? []) {
      tail = (tail + Buffer.from(chunk).toString()).slice(-40);
      await Bun.sleep(20);
    }
    expect(tail).toEndWith('{"count":600}\n');
    await eventually(async () => expect((await gauges(url)).cutOff).toBe(1), { timeoutMs: 20_000 });
    await eventually(async () => expect((await gauges(url)).open).toBe(0));
    unread.socket.resume();
    await eventually(() => unread.closed());
    expect((await fetch(`${url}/events/export`, { headers })).status).toBe(200);
  }, 60_000);

  test("are told by a reset that a later page failed, and the log says so in one line", async () => {
    await storeProducts(tenant.tenantId, 6_000);
    const server = await startServer({ ...api.env, LOG_LEVEL: "warn" });
    const { socket, closed } = await ask(server.url, "/products/export", tenant.key);
    await eventually(async () => expect((await gauges(server.url)).open).toBe(1));
    await api.sql`alter table products rename to products_away`;
    socket.resume();
    await eventually(() => closed()).finally(() => api.sql`alter table products_away rename to products`);
    const lines = await eventually(() => {
      const said = server.output().trim().split("\n");
      return said.some((line) => line.includes("download broken off")) ? said : null;
    });
    // Each line is JSON: nothing else was printed.
    const told = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === "download broken off");
    expect(told).toEqual([
      expect.objectContaining({ level: "warn", file: "products.csv", requestId: expect.any(String) }),
    ]);
  }, 30_000);
});
