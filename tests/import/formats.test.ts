/** The formats of files, each through the command or through the feature's own entrance. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  createImport,
  type ImportFormat,
  type Mapping,
  parseMapping,
  type Rejection,
} from "../../src/features/importing/index.ts";
import { createTenant, createTestApi, type TestApi, type TestTenant } from "../factories.ts";
import { cleanup, programCommand, runFootfall } from "../harness.ts";
import { createFiles, importFile, SAMPLE, type WriteFile } from "./fixtures.ts";

let api: TestApi;
let tenant: TestTenant;
let write: WriteFile;

beforeAll(async () => {
  api = await createTestApi();
  write = createFiles();
});
beforeEach(async () => {
  tenant = await createTenant(api);
});
afterAll(cleanup);

async function load(file: string, format: ImportFormat, mapping: Mapping | null = null) {
  const rejections: Rejection[] = [];
  const onRejected = (some: readonly Rejection[]) => void rejections.push(...some);
  const { tenantId } = tenant;
  const { totals, run } = createImport(api.deps, { tenantId, file, format, mapping, onRejected });
  await run();
  return { totals, rejections };
}

const stored = () =>
  api.sql`select type, message_id, product_id, user_id, anonymous_id, session_id, quantity, unit_price::text, properties,
      context, to_char(ts at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS') as ts
    from events where tenant_id = ${tenant.tenantId} order by ts, message_id`;

describe("NDJSON", () => {
  test("holds events in the API's envelope; their message ids stay, the others get one", async () => {
    const lines = [
      {
        type: "view",
        productId: "p",
        userId: "u",
        timestamp: "2024-02-29T10:00:00+01:00",
        messageId: "mine",
      },
      {
        type: "view",
        productId: "p",
        userId: "u",
        timestamp: 1_709_200_000_000,
        properties: { deep: { a: [1] } },
      },
      {
        type: "view",
        productId: "p",
        userId: "u",
        timestamp: 1_709_200_000_000,
        properties: { deep: { a: [1] } },
      },
    ];
    const file = await write(
      "events.ndjson",
      `\ufeff${lines.map((line) => JSON.stringify(line)).join("\r\n")}\n\n`,
    );
    expect((await load(file, "ndjson")).totals).toEqual({ rows: 3, stored: 3, duplicates: 0, rejected: 0 });
    expect(await stored()).toMatchObject([
      { message_id: "mine", ts: "2024-02-29T09:00:00.000" },
      { message_id: expect.stringMatching(/^imp:[0-9a-f]{32}:1$/), properties: { deep: { a: [1] } } },
      { message_id: expect.stringMatching(/^imp:[0-9a-f]{32}:2$/) },
    ]);
    expect((await load(file, "ndjson")).totals).toEqual({ rows: 3, stored: 0, duplicates: 3, rejected: 0 });
  });

  test("as the API gives events out is taken back in", async () => {
    const event = { type: "view", userId: "u", timestamp: "2024-05-01T00:00:00.000Z", messageId: "m" };
    await api.call("POST", "/events", { as: tenant.key, json: event });
    const { body } = await api.call("GET", "/events", { as: tenant.key });
    const file = await write("out.jsonl", JSON.stringify(body.items[0]));
    expect((await load(file, "ndjson")).totals).toEqual({ rows: 1, stored: 0, duplicates: 1, rejected: 0 });
    const home = tenant;
    tenant = await createTenant(api);
    expect((await load(file, "ndjson")).totals).toMatchObject({ stored: 1 });
    expect(tenant.tenantId).not.toBe(home.tenantId);
  });

  test.each(["ndjson", "csv"] as const)(
    "as an export (%s) is taken back in, its last line passed over",
    async (format) => {
      const event = { type: "view", userId: "=u", timestamp: "2024-05-01T00:00:00.000Z" };
      for (const messageId of ["one", "two"])
        await api.call("POST", "/events", { as: tenant.key, json: { ...event, messageId } });
      const { body } = await api.call("GET", `/events/export?format=${format}`, { as: tenant.key });
      const text = typeof body === "string" ? body : JSON.stringify(body);
      expect(text).toMatch(/count"?[:=]2\}?\s*$/);
      const file = await write(`export.${format}`, text);
      tenant = await createTenant(api);
      expect(await load(file, format)).toEqual({
        totals: { rows: 2, stored: 2, duplicates: 0, rejected: 0 },
        rejections: [],
      });
      expect(await stored()).toMatchObject([{ user_id: "=u" }, { user_id: "=u" }]);
    },
  );

  test("a bad line is refused alone, with its number and its reason", async () => {
    const good = JSON.stringify({ type: "view", userId: "u", timestamp: "2024-05-01T00:00:00Z" });
    const long = JSON.stringify({ type: "view", userId: "u", properties: { x: "y".repeat(1_200_000) } });
    const lines = [
      good,
      "{",
      "[1]",
      '{"type":"view","userId":"u"}',
      long,
      '{"type":"VIEW","userId":"u","timestamp":1,"x":1}',
      '{"type":"view","userId":"u\\u0000","timestamp":"2024-05-01T00:00:00Z"}',
      '{"type":"view","userId":"u","timestamp":"2999-01-01T00:00:00Z"}',
      good,
    ];
    const { totals, rejections } = await load(await write("bad.ndjson", lines.join("\n")), "ndjson");
    expect(totals).toEqual({ rows: 9, stored: 2, duplicates: 0, rejected: 7 });
    const reasons = rejections.map(({ line, errors }) => [
      line,
      ...errors.map(({ path, code }) => `${path} ${code}`),
    ]);
    expect(reasons).toEqual([
      [2, " malformed_json"],
      [3, " invalid_type"],
      [4, "timestamp required"],
      [5, " too_large"],
      [6, expect.stringContaining("type"), "x unrecognized_keys"],
      [7, expect.stringContaining("userId")],
      [8, "timestamp in_future"],
    ]);
  });
});

describe("CSV in the API's envelope", () => {
  test("puts properties.* and context.* where they belong", async () => {
    const file = await write(
      "events.csv",
      "id,type,timestamp,productId,sessionId,properties,properties.quantity,properties.price,properties.a.b,context.ip\n" +
        'x,purchase,2024-05-01T10:00:00Z,p,s,"{""coupon"":""SPRING""}",2,3.5,=1+1,::1\n' +
        "y,view,1714557600001,,s,,,,,\n" +
        "z,view,1714557600001,,s,[],x,,,\n",
    );
    const { totals, rejections } = await load(file, "csv");
    expect(totals).toMatchObject({ rows: 3, stored: 2, rejected: 1 });
    expect(rejections[0]?.errors.map(({ path }) => path)).toEqual(["properties", "properties.quantity"]);
    expect(await stored()).toMatchObject([
      {
        type: "purchase",
        product_id: "p",
        quantity: 2,
        unit_price: "3.5000",
        properties: { coupon: "SPRING", quantity: 2, price: 3.5, "a.b": "=1+1" },
        context: { ip: "::1" },
      },
      { type: "view", product_id: null, properties: null, ts: "2024-05-01T10:00:00.001" },
    ]);
  });

  test("refuses a header of something else, and says what to do", async () => {
    const file = await write("other.csv", "type,colour\nview,red\n");
    await expect(load(file, "csv")).rejects.toThrow(
      "The header has columns that are no fields of an event (colour) and lacks timestamp; say what its columns mean with --mapping or --preset.",
    );
  });
});

describe("a mapping", () => {
  const mapping = parseMapping(
    JSON.stringify({
      delimiter: ";",
      timestamp: { column: "Datum", format: "D.M.YYYY H:mm" },
      type: { column: "Art", values: { Verkauf: "purchase", Blick: "view" } },
      productId: "Artikel",
      userId: "Kunde",
      anonymousId: { column: "Beleg", onlyWithoutUser: true },
      sessionId: "Beleg",
      messageId: "Nr",
      quantity: { column: "Menge", negative: "refund" },
      price: "Preis",
      properties: {
        land: "Land",
        kg: { column: "Gewicht", as: "number" },
        neu: { column: "Neu", as: "boolean" },
      },
    }),
    "mapping.json",
  );
  const header = "\ufeffNr;Datum;Art;Artikel;Kunde;Beleg;Menge;Preis;Land;Gewicht;Neu\r\n";
  const rows = [
    "1;1.2.2024 9:05;Verkauf; A-1 ;k1;b1;2;9.95;Österreich;1.25;true",
    '2;29.2.2024 23:59;Verkauf;A-1;;b2;-1;9.95;"D;E";;FALSE',
    "3;30.2.2024 23:59;Blick;A-1;;b2;;;;;",
    "4;1.3.2024 00:00;Blick;A-1;;b2;;;;;",
    "5;1.3.2024 00:00;verkauf!;A-1;;b2;zwei;x;;heavy;perhaps",
  ];
  const expected = [
    {
      type: "purchase",
      message_id: "1",
      product_id: "A-1",
      user_id: "k1",
      anonymous_id: null,
      session_id: "b1",
      quantity: 2,
      unit_price: "9.9500",
      properties: { land: "Österreich", kg: 1.25, neu: true, quantity: 2, price: 9.95 },
      ts: "2024-02-01T09:05:00.000",
    },
    {
      type: "refund",
      message_id: "2",
      user_id: null,
      anonymous_id: "b2",
      quantity: 1,
      properties: { land: "D;E", neu: false, quantity: 1, price: 9.95 },
      ts: "2024-02-29T23:59:00.000",
    },
    { type: "view", message_id: "4", properties: null, ts: "2024-03-01T00:00:00.000" },
  ];

  test("reads a CSV file", async () => {
    const { totals, rejections } = await load(
      await write("de.csv", header + rows.join("\r\n")),
      "csv",
      mapping,
    );
    expect(totals).toMatchObject({ stored: 3, rejected: 2 });
    expect(rejections.map(({ line, errors }) => [line, ...errors.map(({ path }) => path)])).toEqual([
      [4, "Datum"],
      [6, "Gewicht", "Neu", "Menge", "Preis"],
    ]);
    expect(await stored()).toMatchObject(expected);
  });

  test("makes adjustments of negative prices, whose amount is quantity times price whatever their signs", async () => {
    const adjusting = { ...mapping, price: { column: "Preis", negative: "adjustment" as const } };
    const signs = ["2;9.95", "2;-9.95", "-2;9.95", "-2;-9.95", ";-9.95"];
    const file = signs.map((amounts, n) => `${n};1.2.2024 9:05;Verkauf;A-1;k1;b1;${amounts};;;`).join("\n");
    const { totals } = await load(await write("signs.csv", header + file), "csv", adjusting);
    expect(totals).toMatchObject({ stored: 5, rejected: 0 });
    const rows = await stored();
    expect(rows.map(({ type, quantity, unit_price }) => [type, quantity, unit_price])).toEqual([
      ["purchase", 2, "9.9500"],
      ["adjustment", 2, "-9.9500"],
      ["refund", 2, "9.9500"],
      ["adjustment", 2, "9.9500"],
      ["adjustment", 1, "-9.9500"],
    ]);
    const { rejections } = await load(await write("refused.csv", header + file), "csv", mapping);
    expect(rejections.map(({ line, errors }) => [line, errors[0]?.path])).toEqual(
      [3, 5, 6].map((line) => [line, "properties.price"]),
    );
  });

  test("reads NDJSON by its keys, also nested ones, and takes numbers as they are", async () => {
    const nested = { ...mapping, productId: { column: "Artikel.Nummer" } };
    const lines = [
      {
        Nr: 1,
        Datum: "1.2.2024 9:05",
        Art: "Verkauf",
        Artikel: { Nummer: "A-1" },
        Beleg: "b1",
        Menge: 2,
        Preis: 9.95,
      },
      {
        Nr: 2,
        Datum: "2.2.2024 9:05",
        Art: "Blick",
        "Artikel.Nummer": 7,
        Beleg: "b1",
        Menge: null,
        Kunde: "",
      },
    ];
    const file = await write("de.ndjson", lines.map((line) => JSON.stringify(line)).join("\n"));
    expect((await load(file, "ndjson", nested)).totals).toMatchObject({ stored: 2 });
    expect(await stored()).toMatchObject([
      { message_id: "1", product_id: "A-1", quantity: 2, unit_price: "9.9500" },
      { message_id: "2", product_id: "7", user_id: null, anonymous_id: "b1" },
    ]);
  });

  test("may say that numbers have a decimal comma; what could be meant otherwise is refused", async () => {
    const comma: Mapping = { ...mapping, decimal: "," };
    const prices = ["9,95", "12", "1.234,50", "9.95", "1,2,3"];
    const lines = prices.map((price, n) => `${n};1.2.2024 9:0${n};Verkauf;A-1;k1;b1;1;${price};;"0,25";`);
    const file = await write("comma.csv", `${header}${lines.join("\r\n")}`);
    const { totals, rejections } = await load(file, "csv", comma);
    expect(totals).toMatchObject({ stored: 2, rejected: 3 });
    expect(rejections.map(({ errors }) => errors.map(({ path }) => path))).toEqual([
      ["Preis"],
      ["Preis"],
      ["Preis"],
    ]);
    expect(await stored()).toMatchObject([
      { unit_price: "9.9500", properties: { kg: 0.25 } },
      { unit_price: "12.0000" },
    ]);
  });

  test("that is wrong is explained entry by entry", () => {
    const wrong = {
      timestamp: { column: "t", format: "yyyy-mm-dd" },
      type: {},
      quantity: { col: 1 },
      properties: { a: { column: "x", as: "int" } },
      foo: 1,
    };
    let message = "";
    try {
      parseMapping(JSON.stringify(wrong), "m.json");
    } catch (error) {
      message = (error as Error).message;
    }
    for (const part of [
      "m.json is no valid mapping",
      "timestamp.format: must be auto, rfc3339",
      'type: must have either "constant" or "column"',
      "quantity.col: is no known name; did you mean column?",
      "properties.a.as",
      "foo: is no known name",
    ])
      expect(message).toContain(part);
    expect(() => parseMapping("{", "m.json")).toThrow("m.json is not valid JSON");
  });
});

describe("the command", () => {
  test("inflates gzip by its content, also in several members, and reads standard input", async () => {
    const text = await Bun.file(SAMPLE).text();
    const lines = text.split("\n");
    const halves = [lines.slice(0, 150).join("\n"), `\n${lines.slice(150).join("\n")}`];
    const bytes = Buffer.concat(halves.map((half) => Bun.gzipSync(half)));
    const file = await write("no-name-that-says-so", bytes);
    const zipped = await importFile(api, tenant, file, "--format", "csv", "--preset", "online-retail");
    expect(zipped.stdout).toContain("300 rows read, 300 stored");

    const command = ["import", "-", "--tenant", tenant.slug, "--format", "csv", "--preset", "online-retail"];
    const piped = Bun.spawn(programCommand(command), {
      env: { PATH: process.env.PATH ?? "", ...api.env },
      stdin: new Blob([bytes]),
      stdout: "pipe",
      stderr: "pipe",
    });
    expect(await new Response(piped.stdout).text()).toContain("300 rows read, 0 stored, 300 duplicates");
    expect(await piped.exited).toBe(0);
  });

  test("quotes, line ends and compression don't make a row another one; a longer file adds what is new", async () => {
    const header = "type,timestamp,userId";
    const row = "view,2024-05-01T00:00:00Z,u";
    await load(await write("a.csv", `${header}\n${row}\n${row}\n`), "csv");
    const quoted = '"view","2024-05-01T00:00:00Z","u"';
    const longer = [header, quoted, "", quoted, "view,2024-05-02T00:00:00Z,u", quoted].join("\r\n");
    const { totals } = await load(await write("b.csv.gz", Bun.gzipSync(longer)), "csv");
    expect(totals).toEqual({ rows: 4, stored: 2, duplicates: 2, rejected: 0 });
  });

  test("shows what a file would become, and stores nothing, in a dry run", async () => {
    const rows = ["1,2024-05-01 10:00:00.5,2,x", "2,yesterday,1,y", ...Array(2_000).fill("3,1714557600,1,z")];
    const file = await write("dry.csv", `Nr,When,Qty,Note\n${rows.join("\n")}`);
    const json = { timestamp: "When", type: { constant: "add_to_cart" }, productId: "Nr", sessionId: "Nr" };
    const mapping = await write("dry.json", JSON.stringify({ ...json, properties: { amount: "Qty" } }));
    const { exitCode, stdout, stderr } = await importFile(
      api,
      tenant,
      file,
      "--mapping",
      mapping,
      "--dry-run",
    );
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout.split("\n").slice(0, 11)).toEqual([
      `${file}, the first 1000 rows: 999 would be stored, 1 rejected.`,
      "Nothing was stored.",
      "",
      "What the columns mean:",
      '  timestamp: "When" (auto; a time without a zone is UTC)',
      "  type: always add_to_cart",
      '  productId: "Nr"',
      '  sessionId: "Nr"',
      '  properties.amount: "Qty"',
      "  not used: Note",
      "",
    ]);
    const events = stdout
      .split("\n")
      .slice(12, 15)
      .map((line) => JSON.parse(line));
    expect(events).toMatchObject([
      {
        type: "add_to_cart",
        timestamp: "2024-05-01T10:00:00.500Z",
        productId: "1",
        properties: { amount: "2" },
      },
      { timestamp: "2024-05-01T10:00:00.000Z", productId: "3" },
      { timestamp: "2024-05-01T10:00:00.000Z", productId: "3" },
    ]);
    expect(await stored()).toHaveLength(0);
  });

  test("says in a dry run why most rows would be rejected", async () => {
    const file = await write(
      "other.csv",
      "type,timestamp,userId\nview,soon,u\nview,2024-05-01,u\nVIEW,2024-05-01,\n",
    );
    const list = `${file}.errors.csv`;
    const { exitCode, stdout, stderr } = await importFile(api, tenant, file, "--dry-run", "--errors", list);
    expect(stdout).toContain("the first 3 rows: 1 would be stored, 2 rejected.");
    expect(await Bun.file(list).text()).toMatch(/^line,path,message\r\n2,timestamp,.*\r\n4,type,/);
    expect(stderr).toContain("2 of 3 rows (66.7%) were rejected. The most frequent reasons:\n");
    expect(stderr).toMatch(/^ {2}1 rows: timestamp /m);
    expect(exitCode).toBe(2);
  });

  test("takes the tenant's id as well as its slug", async () => {
    const byId = await importFile(
      api,
      { ...tenant, slug: tenant.tenantId },
      SAMPLE,
      "--preset",
      "online-retail",
    );
    expect(byId.stdout).toContain("300 rows read, 300 stored");
    for (const name of [tenant.tenantId.toUpperCase(), tenant.slug]) {
      const verified = await runFootfall(["verify", "--tenant", name], api.env);
      expect(verified).toMatchObject({
        exitCode: 0,
        stdout: expect.stringContaining(`${tenant.slug}: clean`),
      });
    }
    const nobody = Bun.randomUUIDv7();
    for (const options of [[], ["--create-tenant"]]) {
      const missing = await importFile(
        api,
        { ...tenant, slug: nobody },
        SAMPLE,
        "--preset",
        "online-retail",
        ...options,
      );
      expect(missing.stderr).toContain(`footfall: There is no tenant with the id ${nobody}`);
    }
    // A shop that is named after another one's id gets a slug of that form, and nothing else.
    const slug = tenant.tenantId;
    await api.sql`insert into tenants (id, slug, name) values (${nobody}, ${slug}, 'trap')`;
    expect(await api.deps.identity.findTenantId(slug)).toBe(tenant.tenantId);
  });

  test("makes the tenant when asked to, in its time zone", async () => {
    const options = ["--preset", "online-retail", "--create-tenant", "--time-zone", "Asia/Tokyo"];
    const made = { ...tenant, slug: `${tenant.slug}-new` };
    expect((await importFile(api, made, SAMPLE, ...options, "--tenant-name", "Made")).exitCode).toBe(0);
    expect(await api.sql`select name, time_zone from tenants where slug = ${made.slug}`).toEqual([
      { name: "Made", time_zone: "Asia/Tokyo" },
    ] as never);
    const other = await importFile(api, made, SAMPLE, ...options.slice(0, 3), "--time-zone", "Europe/Paris");
    expect(other.exitCode).toBe(1);
    expect(other.stderr).toContain("exists and its time zone is Asia/Tokyo");
  });
});

test("an event that came in live stays known for ever once an import has met it", async () => {
  const event = { type: "view", userId: "u", timestamp: new Date().toISOString(), messageId: "live" };
  await api.call("POST", "/events", { as: tenant.key, json: event });
  const expiry = () => api.sql`select expires_at from event_keys where tenant_id = ${tenant.tenantId}`;
  expect(await expiry()).toMatchObject([{ expires_at: expect.any(Date) }]);
  const { totals } = await load(await write("live.ndjson", JSON.stringify(event)), "ndjson");
  expect(totals.duplicates).toBe(1);
  expect(await expiry()).toMatchObject([{ expires_at: null }]);
});
