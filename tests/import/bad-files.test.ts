/**
 * Whatever is wrong with a file or an argument: one sentence, exit code 1, and nothing half done in
 * silence.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, runFootfall } from "../harness.ts";
import { CLEAN, createFiles, importFile, SAMPLE, verify, type WriteFile } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;
let write: WriteFile;
let sample: string;
let header: string;

beforeAll(async () => {
  api = await createTestApi();
  write = createFiles();
  sample = await Bun.file(SAMPLE).text();
  header = `${sample.split("\n")[0]}\n`;
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

const importSales = (file: string, ...options: string[]) =>
  importFile(api, tenant, file, "--preset", "online-retail", ...options);

/** Random descriptions keep the gzip data long enough to be cut in its middle. */
function manyRows(count: number): string {
  const row = (n: number) => `${n},A,${crypto.randomUUID()},1,2011-01-01 00:00:00,1.5,,EIRE\n`;
  return header + Array.from({ length: count }, (_, n) => row(n)).join("");
}

async function expectFailure(
  run: Promise<{ exitCode: number; stdout: string; stderr: string }>,
  sentence: string | RegExp,
): Promise<string> {
  const { exitCode, stdout, stderr } = await run;
  if (typeof sentence === "string") expect(stderr).toContain(sentence);
  else expect(stderr).toMatch(sentence);
  expect(stderr).not.toMatch(/\n\s+at /);
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
  return stderr;
}

async function expectNothingStored(): Promise<void> {
  expect(await api.sql`select from event_batches where tenant_id = ${tenant.tenantId}`).toHaveLength(0);
}

describe("refused before anything is stored:", () => {
  const gzip = () => Bun.gzipSync(manyRows(5_000));
  const cases: [string, string, () => string | Uint8Array, string][] = [
    ["an empty file", "e.csv", () => "", "is empty."],
    ["a header alone", "h.csv", () => header, "has no rows."],
    ["a wrong header", "w.csv", () => "a,InvoiceNo\n1,2\n", "lacks the columns InvoiceDate, StockCode"],
    ["a column named twice", "t.csv", () => `${header.trim()},Country\n`, 'names the column "Country" twice'],
    ["a gzip file cut off", "cut.csv.gz", () => gzip().slice(0, -5_000), "is damaged or cut off"],
    ["a gzip file with a wrong checksum", "crc.csv.gz", () => flip(gzip(), -8), "is damaged or cut off"],
    ["a gzip file damaged inside", "bad.csv.gz", () => flip(gzip(), 30_000), "is damaged or cut off"],
    ["a NUL", "nul.csv", () => sample.replace("LANTERN", "LAN\0TERN"), "holds a NUL on line 3"],
    ["Latin-1", "latin.csv", () => Buffer.from(sample, "latin1"), /is not UTF-8 text on line \d+;/ as never],
    [
      "a character cut off at the end",
      "u.csv",
      () => Buffer.from(`${sample}\ud83d\ude00`).subarray(0, -1),
      "line 302",
    ],
    [
      "UTF-16",
      "u16.csv",
      () => Buffer.from(`\ufeff${sample}`, "utf16le"),
      /NUL on line 1|UTF-8 text on line 1/ as never,
    ],
  ];
  test.each(cases)("%s", async (_, name, content, sentence) => {
    const stderr = await expectFailure(importSales(await write(name, content())), sentence);
    expect(stderr).toContain("Nothing was stored.");
    await expectNothingStored();
  });

  test("a file that is not there, or no file", async () => {
    await expectFailure(importSales("/nowhere/sales.csv"), "/nowhere/sales.csv does not exist.");
    await expectFailure(importSales("/", "--format", "csv"), "/ is a directory, not a file.");
    const made = { ...tenant, slug: "never-made" };
    await expectFailure(importFile(api, made, "/nowhere/sales.csv", "--create-tenant"), "does not exist.");
    expect(await api.deps.identity.findTenantId("never-made")).toBeNull();
  });

  test("arguments that make no sense", async () => {
    await expectFailure(
      importSales(await write("sales.dat", sample)),
      "so give --format csv or --format ndjson",
    );
    await expectFailure(importSales(SAMPLE, "--errors", "/nowhere/e.csv"), "/nowhere/e.csv can't be written");
    await expectFailure(importSales(SAMPLE, "--mapping", "m.json"), "cannot be used with");
    await expectFailure(
      importFile(api, tenant, SAMPLE, "--mapping", "/nowhere.json"),
      "/nowhere.json does not exist.",
    );
    await expectFailure(
      importFile(api, tenant, SAMPLE),
      "lacks type and timestamp; say what its columns mean",
    );
    await expectFailure(importSales(SAMPLE, "--time-zone", "Asia/Tokyo"), "are only for --create-tenant");
    const unknown = ["import", SAMPLE, "--tenant", "nobody", "--preset", "online-retail"];
    await expectFailure(runFootfall(unknown, api.env), 'There is no tenant "nobody"');
    await expectNothingStored();
  });
});

test("a mapping that is wrong in a common way is told how to be right", async () => {
  const sales = await write("s.csv", "Date;SKU\n2026-01-02;a\n");
  const mapping = (json: object) => write("m.json", JSON.stringify(json));
  const importAs = async (json: object) => importFile(api, tenant, sales, "--mapping", await mapping(json));
  const named = { timestamp: "Date", type: { constant: "view" }, productId: "SKU" };
  await expectFailure(importAs({ ...named, type: "view" }), 'type: must be { "constant": "purchase" }');
  await expectFailure(importAs({ timestamp: "Date" }), 'type: must be { "constant": "purchase" }');
  await expectFailure(importAs(named), 'one column, so the mapping needs "delimiter": ";"');
  await expectNothingStored();
});

test("a tenant that is made without an ADMIN_EMAIL is told how to get an admin, once", async () => {
  const made = { ...tenant, slug: `made-${tenant.slug}` };
  const load = () => importFile(api, made, SAMPLE, "--preset", "online-retail", "--create-tenant");
  expect((await load()).stderr).toContain(`footfall admin create --tenant ${made.slug}`);
  expect((await load()).stderr).not.toContain("admin create");
});

function flip(bytes: Uint8Array, at: number): Uint8Array {
  const damaged = bytes.slice();
  const index = at < 0 ? bytes.length + at : at;
  damaged[index] = (damaged[index] ?? 0) ^ 0xff;
  return damaged;
}

test("a quote that never closes ends the import; what came before is stored, rolled up and said", async () => {
  const file = await write("open.csv", `${manyRows(3_000)}1,A,"open,1,2011-01-01 00:00:00,1.5,,EIRE\n`);
  const stderr = await expectFailure(importSales(file), "has a quote that is never closed");
  expect(stderr).toContain("Stopped after 3000 rows read, 3000 stored, 0 duplicates, 0 rejected.");
  expect(await verify(api, tenant.tenantId)).toEqual(CLEAN);
  const mended = await write("open.csv", (await Bun.file(file).text()).replace('"', ""));
  expect((await importSales(mended)).stdout).toContain("3001 rows read, 1 stored, 3000 duplicates");
});

test("a quote that never closes does not take the rest of a large file into memory", async () => {
  const file = await write("large.csv", `${header}1,A,"open${"x,1\n".repeat(500_000)}`);
  await expectFailure(importSales(file), "has a quote that is never closed");
});

test("bad rows stop no good ones; the first ten are shown and all are written to the file", async () => {
  const rows = Array.from({ length: 30 }, (_, n) => [
    `${n},A,x,1,2011-01-01 00:00:00,1.5,,EIRE`,
    `${n},A,x,0,2011-01-01 00:00:00,1.5,,EIRE`,
    `${n},A,x"y,1,2011-01-01 00:00:00,1.5,,EIRE`,
  ]);
  const more = ['1,A,"two\nlines",1,2011-13-01 00:00:00,1.5,,EIRE', '2,A,"a"b",1', "3,A", "9,,,x,y,z,,"];
  const file = await write("mixed.csv", header + [...rows.flat(), ...more].join("\n"));
  const errors = await write("errors.csv", "");
  const { exitCode, stdout, stderr } = await importSales(file, "--errors", errors);
  expect(stdout).toContain("94 rows read, 30 stored, 0 duplicates, 64 rejected");
  expect(exitCode).toBe(2);
  expect(stderr.match(/^line \d+ rejected: /gm)).toHaveLength(10);
  expect(stderr).toContain("line 3 rejected: properties.quantity must be a whole number");
  expect(stderr).toContain("line 4 rejected: has a quote inside a value");
  expect(stderr).toContain(`54 more rows rejected; see ${errors}`);
  const written = (await Bun.file(errors).text()).trim().split("\r\n");
  expect(written[0]).toBe("line,path,message");
  expect(written.slice(-6)).toEqual([
    "92,InvoiceDate,is not a time in the format YYYY-MM-DD HH:mm:ss",
    "94,,has a quote inside a value; such a value must be quoted and its quotes doubled",
    "95,,has 2 values where the header has 8",
    "96,InvoiceDate,is not a time in the format YYYY-MM-DD HH:mm:ss",
    "96,Quantity,is no number",
    "96,UnitPrice,is no number",
  ]);
  const [account] = await api.sql`
    select sum(received)::int as received, sum(stored)::int as stored, sum(rejected)::int as rejected
    from ingest_hourly_stats where tenant_id = ${tenant.tenantId}`;
  expect(account).toEqual({ received: 94, stored: 30, rejected: 64 });
});

test.each([
  [1, 1, 2],
  [100, 1, 0],
  [200, 3, 2],
])("of %d rows, %d bad ones end the import with exit code %d", async (rows, bad, expected) => {
  const lines = Array.from({ length: rows }, (_, n) =>
    n < bad ? `${n},A` : `${n},A,x,1,2011-01-01 00:00:00,1.5,,EIRE`,
  );
  const { exitCode, stdout, stderr } = await importSales(
    await write(`share-${rows}.csv`, header + lines.join("\n")),
  );
  expect(stdout).toContain(`${rows} rows read, ${rows - bad} stored, 0 duplicates, ${bad} rejected`);
  expect(exitCode).toBe(expected);
  const share = ((100 * bad) / rows).toFixed(1);
  const summary =
    `${bad} of ${rows} rows (${share}%) were rejected. The most frequent reasons:\n` +
    `  ${bad} rows: has 2 values where the header has 8\n`;
  if (expected === 2) expect(stderr).toContain(summary);
  else expect(stderr).not.toContain("most frequent");
});

test("rows that are wrong in the same way count as one reason, though their values differ", async () => {
  const swapped = Array.from(
    { length: 30 },
    (_, n) => `{"type":"view","userId":"u","timestamp":"2011-25-${10 + n} 10:00:00"}`,
  );
  const long = Array.from(
    { length: 20 },
    (_, n) => `{"type":"view","userId":"${"u".repeat(300 + n)}","timestamp":"2011-01-01"}`,
  );
  const file = await write("alike.ndjson", [...swapped, ...long].join("\n"));
  const { exitCode, stderr } = await importFile(api, tenant, file);
  expect(exitCode).toBe(2);
  const [first, second] = (stderr.split("The most frequent reasons:\n")[1] ?? "").split("\n");
  expect(first).toBe(
    "  30 rows: timestamp is no time that can be read, such as 2026-11-21 09:30:00; say its format in a mapping",
  );
  expect(second).toMatch(/^ {2}20 rows: such as userId must have at most \d+ characters, but has 300$/);
});
