/**
 * Wrong files and uploads, over a socket: each ends in a 400, 413 or 415, or in an import that says
 * how far it came. What is refused leaves nothing behind.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { callOver, createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, eventually, startServer } from "../harness.ts";
import { countSpooled, importCsv, NOTHING, readProducts, upload, workOff } from "./fixtures.ts";

const MAX_BYTES = 8 * 1024 * 1024;

let api: TestApi;
let tenant: TestTenant;
let url: URL;

beforeAll(async () => {
  const own = await createTestApi({ IMPORT_MAX_BYTES: String(MAX_BYTES) });
  const server = await startServer({ ...own.env, LOG_LEVEL: "error" });
  url = new URL(server.url);
  api = { ...own, call: callOver(server.url) };
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const bytes = (...parts: (string | number[])[]) =>
  new Uint8Array(Buffer.concat(parts.map((part) => Buffer.from(part as string))));
const utf16 = (text: string) => new Uint8Array(Buffer.from(`\ufeff${text}`, "utf16le"));
const spooled = () => countSpooled(api, tenant.tenantId);

describe("a file that is refused", () => {
  const good = "name,price\nx,1\n";
  test.each<[string, string | Uint8Array<ArrayBuffer>, RegExp]>([
    ["nothing", "", /empty/],
    ["blank lines", "\n\r\n\n", /empty/],
    ["a header only", "name,price\n", /no rows/],
    ["a header only, without an end", "name,price", /no rows/],
    ["a header and blank lines", "name,price\r\n\r\n\r\n", /no rows/],
    ["an unknown column", "name,price,colour\nx,1,red\n", /"colour"/],
    ["a column twice", "name,price,name\nx,1,y\n", /"name" twice/],
    ["no price", "id,name\n1,x\n", /lacks the column price/],
    ["no name and no price", "id,sku\n1,x\n", /lacks the column name and price/],
    ["another delimiter", "name;price\nx;1\n", /"name;price": separate columns by commas/],
    ["too many columns", `${Array.from({ length: 101 }, (_, n) => `c${n}`)}\n1\n`, /101 columns/],
    ["a million columns", `${",".repeat(1_000_000)}\n1\n`, /longer than 65536 bytes/],
    ["a header that never ends", `${"x".repeat(3_000_000)}`, /longer than 65536 bytes/],
    ["an unclosed quote in the header", '"name,price\nx,1\n', /never closed/],
    ["UTF-16", utf16(good), /UTF-16/],
    ["UTF-16 without a mark", new Uint8Array(Buffer.from(good, "utf16le")), /NUL on line 1/],
    ["a NUL", "name,price\nx,1\na\0b,1\n", /NUL on line 3/],
    ["Latin-1", bytes("name,price\nx,1\n", [0x47, 0x72, 0xf6, 0xdf, 0x65], ",1\n"), /not UTF-8 on line 3/],
    ["half a character at the end", bytes("name,price\nx,1\ny", [0xe2, 0x82]), /not UTF-8 on line 3/],
    ["a NUL after megabytes", `${good}${"some name,1\n".repeat(200_000)}\0`, /NUL on line 200003/],
  ])("%s", async (_, body, message) => {
    const answer = await upload(api, tenant.key, body);
    expect(answer.body.detail).toMatch(message);
    expect(answer.status).toBe(400);
    expect(await spooled()).toEqual(NOTHING);
  });

  test("one that is larger than the setting allows, declared or not", async () => {
    const row = "some name,1\n";
    const body = `name,price\n${row.repeat(Math.ceil(MAX_BYTES / row.length))}`;
    expect((await upload(api, tenant.key, body)).status).toBe(413);
    expect((await upload(api, tenant.key, new Blob([body]).stream())).status).toBe(413);
    expect(await spooled()).toEqual(NOTHING);
  });

  test("other media types, encodings and character sets", async () => {
    for (const headers of [
      { "content-type": "application/json" },
      { "content-type": "text/plain" },
      { "content-type": "text/csv; charset=latin1" },
      { "content-encoding": "gzip" },
    ] as Record<string, string>[])
      expect((await upload(api, tenant.key, good, headers)).status).toBe(415);
    expect(await spooled()).toEqual(NOTHING);
  });

  test("more files than may wait", async () => {
    await api.sql`insert into product_imports (tenant_id, id, status, created_at, held_until)
      select ${tenant.tenantId}, gen_random_uuid(), 'queued', now(), now() + interval '1 hour' from generate_series(1, 20)`;
    expect((await upload(api, tenant.key, good)).status).toBe(409);
  });
});

describe("a file that is wrong further on", () => {
  test.each([
    ["an unclosed quote", '3,"never closed\n4,x,1\n', /never closed in the record that begins on line 4\./],
    ["a line of 5 MB", `3,${"x".repeat(5_000_000)},1\n`, /begins on line 4 is longer than 1 MB/],
    ["a row of a million columns", `3${",".repeat(1_100_000)}\n`, /begins on line 4 is longer than 1 MB/],
  ])("%s: what is before it is imported, and the report says so", async (_, end, message) => {
    const report = await importCsv(api, tenant.key, `id,name,price\n1,one,1\n2,two,1\n${end}`);
    expect(report).toMatchObject({ status: "failed", rows: 2, created: 2, failed: 0 });
    expect(report.error).toMatch(message);
    expect(report.error).toContain("The rows before it were imported");
    expect((await readProducts(api, tenant.tenantId)).length).toBe(2);
    expect((await spooled()).pieces).toBe(0);
  });

  test("a row with more columns than the header is a bad row, however many they are", async () => {
    const report = await importCsv(
      api,
      tenant.key,
      `id,name,price\n1,one,1\n2${",".repeat(500_000)}\n3,three,1\n`,
    );
    expect(report).toMatchObject({ status: "succeeded", created: 2, failed: 1 });
    expect(report.errors).toEqual([
      { line: 3, path: "", message: "has 500001 values where the header has 3" },
    ]);
  });

  test("megabytes of blank lines are no row and make none too long, wherever they are", async () => {
    const blank = "\n".repeat(1_200_000);
    const crlf = "\r\n".repeat(600_001);
    const report = await importCsv(
      api,
      tenant.key,
      `id,name,price\na,a,1\n${blank}b,b,1\n${crlf}=a"b,,\n\n\rc,c,1\n${blank}`,
    );
    expect(report).toMatchObject({ status: "succeeded", rows: 4, created: 2, failed: 2 });
    expect(report.errors.map(({ line, path }: { line: number; path: string }) => [line, path])).toEqual([
      [1_800_005, ""],
      [1_800_007, "id"],
    ]);
  });

  test("hundreds of thousands of bad rows are all counted, and reported as CSV up to a bound", async () => {
    const report = await importCsv(api, tenant.key, `id,name,price\n${'"=a"b,,\n'.repeat(101_500)}ok,ok,1\n`);
    expect(report).toMatchObject({ status: "succeeded", rows: 101_501, created: 1, failed: 101_500 });
    expect(report.errors.length).toBe(100);
    const { body, headers } = await api.call("GET", `/products/imports/${report.id}/errors`, {
      as: tenant.key,
    });
    expect(headers.get("content-disposition")).toContain("attachment");
    const lines = body.trimEnd().split("\r\n");
    expect(lines.slice(0, 2)).toEqual([
      "line,path,message",
      "2,,has a quote inside a value; such a value must be quoted and its quotes doubled",
    ]);
    expect(lines.length - 1).toBe(100_000);
  }, 60_000);
});

describe("forms", () => {
  const send = (form: FormData) =>
    api.call("POST", "/products/import", { as: tenant.key, body: form as never });
  const file = (text: string) => new File([text], "products.csv", { type: "text/csv" });

  test("with one part `file` are taken, to the byte", async () => {
    const form = new FormData();
    const text = `id,name,price\n${Array.from({ length: 30_000 }, (_, n) => `${n},"a\r\nb --",1\n`).join("")}`;
    form.append("file", file(text));
    const { status, body } = await send(form);
    expect(status).toBe(202);
    await workOff(api);
    const report = (await api.call("GET", `/products/imports/${body.importId}`, { as: tenant.key })).body;
    expect(report).toMatchObject({ status: "succeeded", bytes: text.length, created: 30_000, failed: 0 });
  });

  test("without that part, with others or several of it, broken or unfinished are refused", async () => {
    const text = "name,price\nx,1\n";
    const [other, two, extra] = [new FormData(), new FormData(), new FormData()];
    other.append("upload", file(text));
    two.append("file", file(text));
    two.append("file", file(text));
    extra.append("note", "hello");
    extra.append("file", file(text));
    for (const form of [other, two, extra, new FormData()]) expect((await send(form)).status).toBe(400);
    const raw = (body: string, type = "multipart/form-data; boundary=b") =>
      upload(api, tenant.key, body, { "content-type": type });
    const part = `--b\r\ncontent-disposition: form-data; name="file"; filename="x.csv"\r\n\r\n${text}`;
    expect((await raw(`${part}\r\n--b--\r\n`)).status).toBe(202);
    expect((await raw(part)).status).toBe(400);
    expect((await raw(`${part}\r\n--b--\r\n`, "multipart/form-data")).status).toBe(400);
    expect((await raw("rubbish")).status).toBe(400);
    const encoded = part.replace('filename="x.csv"', "filename*=UTF-8''%ff%");
    expect((await raw(`${encoded}\r\n--b--\r\n`)).status).toBe(400);
    expect(await spooled()).toMatchObject({ imports: 1, pieces: 1 });
  });
});

describe("an upload that breaks off", () => {
  /** Sends a request's head and pieces of its body, then closes the connection. */
  async function breakOff(headers: Record<string, string | number>, ...pieces: string[]): Promise<void> {
    const socket = connect(Number(url.port), url.hostname);
    socket.on("error", () => {});
    const all = {
      host: url.host,
      authorization: `Bearer ${tenant.key}`,
      "content-type": "text/csv",
      ...headers,
    };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}`);
    socket.write(`POST /products/import HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
    for (const piece of pieces) socket.write(piece);
    await eventually(async () => (await spooled()).pieces > 0);
    socket.destroy();
  }

  const body = `name,price\n${"some name,1\n".repeat(200_000)}`;
  test.each<[string, Record<string, string | number>, string]>([
    ["declared", { "content-length": 3_000_000 }, body],
    ["chunked", { "transfer-encoding": "chunked" }, `${body.length.toString(16)}\r\n${body}\r\n`],
  ])("(%s) leaves nothing", async (_, headers, piece) => {
    await breakOff(headers, piece);
    await eventually(async () => expect(await spooled()).toEqual(NOTHING));
  });

  test("together with its process is removed by housekeeping, and is shown to nobody meanwhile", async () => {
    const other = await startServer({ ...api.env, LOG_LEVEL: "error" });
    const stream = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new Uint8Array(Buffer.from(body))),
    });
    const sent = callOver(other.url)("POST", "/products/import", {
      as: tenant.key,
      body: stream,
      headers: { "content-type": "text/csv" },
    }).catch(() => null);
    await eventually(async () => (await spooled()).pieces > 0);
    other.kill("SIGKILL");
    await other.exited;
    await sent;
    expect((await api.call("GET", "/products/imports", { as: tenant.key })).body.items).toEqual([]);
    expect(await api.deps.catalogueImports.prune()).toBe(0);
    await api.sql`update product_imports set held_until = now() - interval '1 second' where tenant_id = ${tenant.tenantId}`;
    expect(await api.deps.catalogueImports.prune()).toBe(1);
    expect(await spooled()).toEqual(NOTHING);
  });

  test("old reports are removed with their errors, fresh ones stay", async () => {
    const old = await importCsv(api, tenant.key, "name,price\n,1\n");
    const fresh = await importCsv(api, tenant.key, "name,price\n,1\n");
    await api.sql`update product_imports set finished_at = now() - interval '91 days' where id = ${old.id}`;
    expect(await api.deps.catalogueImports.prune()).toBe(1);
    const left =
      await api.sql`select import_id from product_import_errors where tenant_id = ${tenant.tenantId}`;
    expect(left.map((row) => row.import_id)).toEqual([fresh.id]);
  });
});
