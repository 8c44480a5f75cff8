/**
 * fast-check arbitraries for the requests of an OpenAPI document: what a schema accepts, and ways
 * to break it.
 */
import fc from "fast-check";
import { type ContractDocument, type Operation, type Parameter, resolve, type Schema } from "./document.ts";

/** What makes a request meaningful: valid credentials and existing ids. */
export interface Known {
  credentials: string[];
  ids: string[];
}

export interface GeneratedRequest {
  operation: Operation;
  path: string;
  init: RequestInit & { method: string };
  what: string;
}

type Schemas = ContractDocument["schemas"];

const HOSTILE_TEXTS = [
  "",
  " ",
  "\0",
  "a\0b",
  "\ud800",
  "\uffff",
  "null",
  "true",
  "-1",
  "1e999",
  "NaN",
  "'; select 1; --",
  "%00",
  "../..",
  "\r\n",
  "__proto__",
  "0".repeat(300),
  "x".repeat(3_000),
];

const anyText = fc.oneof(
  { weight: 4, arbitrary: fc.string({ unit: "binary", maxLength: 40 }) },
  { weight: 4, arbitrary: fc.string({ unit: "grapheme", maxLength: 40 }) },
  { weight: 2, arbitrary: fc.constantFrom(...HOSTILE_TEXTS) },
);

const anyNumber = fc.oneof(
  fc.integer(),
  fc.double(),
  fc.constantFrom(0, -0, -1, 2 ** 31, 2 ** 53, -(2 ** 63), 1e308, 5e-324, 0.1),
);

const anyValue: fc.Arbitrary<unknown> = fc.oneof(
  anyText,
  anyNumber,
  fc.boolean(),
  fc.constant(null),
  fc.constant([]),
  fc.constant({}),
  fc.jsonValue({ maxDepth: 3 }),
);

const FORMATS: Record<string, fc.Arbitrary<string>> = {
  uuid: fc.uuid(),
  email: fc.emailAddress(),
  uri: fc.webUrl(),
  // Mostly past ones, which events may have; an expiry needs a future one.
  "date-time": fc
    .oneof(
      {
        weight: 3,
        arbitrary: fc.date({ min: new Date("2025-01-01"), max: new Date(), noInvalidDate: true }),
      },
      {
        weight: 1,
        arbitrary: fc.date({ min: new Date(), max: new Date("2035-01-01"), noInvalidDate: true }),
      },
    )
    .map((date) => date.toISOString()),
  date: fc
    .date({ min: new Date("2025-01-01"), max: new Date("2031-12-31"), noInvalidDate: true })
    .map((date) => date.toISOString().slice(0, 10)),
};

function validText(schema: Schema, known: Known): fc.Arbitrary<string> {
  const { format, pattern, minLength = 0, maxLength = 60 } = schema;
  if (format && FORMATS[format]) return FORMATS[format];
  if (pattern) return fc.stringMatching(new RegExp(pattern));
  const length = { minLength, maxLength: Math.max(minLength, Math.min(maxLength, 60)) };
  return fc.oneof(
    fc.string({ unit: "grapheme-ascii", ...length }),
    fc.string({ unit: "grapheme", ...length }),
    fc.constantFrom(...known.ids),
  );
}

/** A value that the schema takes. */
export function validValue(schemas: Schemas, given: Schema, known: Known): fc.Arbitrary<unknown> {
  const schema = resolve(schemas, given);
  const make = (child: Schema) => validValue(schemas, child, known);
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map(make));
  if (Array.isArray(schema.type))
    return fc.oneof(...schema.type.map((type: string) => make({ ...schema, type })));
  switch (schema.type) {
    case "object": {
      const properties = schema.properties ?? {};
      if (Object.keys(properties).length === 0)
        return fc.dictionary(fc.string({ minLength: 1, maxLength: 20 }), fc.jsonValue({ maxDepth: 2 }), {
          maxKeys: 4,
        });
      const model = Object.fromEntries(
        Object.entries(properties).map(([name, child]) => [name, make(child)]),
      );
      return fc.record(model, { requiredKeys: schema.required ?? [] });
    }
    case "array":
      return fc.array(make(schema.items), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.min(schema.maxItems ?? 5, 5),
      });
    case "integer":
      return fc.integer({
        min: Math.max(schema.minimum ?? -(2 ** 31), -(2 ** 31)),
        max: Math.min(schema.maximum ?? 2 ** 31 - 1, 2 ** 31 - 1),
      });
    case "number":
      // Amounts of money have two decimals, which hardly any double has.
      return fc.oneof(
        fc.double({ min: schema.minimum, max: schema.maximum, noNaN: true }),
        fc.integer({ min: Math.ceil(schema.minimum ?? -1_000), max: 1_000 }).map((n) => n + 0.25),
      );
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    default:
      return validText(schema, known);
  }
}

/** Breaks a value in one place: another type, something missing, something too many. */
export function broken(value: unknown): fc.Arbitrary<unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return anyValue;
  const names = Object.keys(value);
  const extra = fc
    .tuple(fc.oneof(anyText, fc.constantFrom("role", "tenantId", "__proto__", "id")), anyValue)
    .map(([name, added]) => JSON.parse(`{${JSON.stringify(name)}:${JSON.stringify(added ?? null)}}`))
    .map((added) => Object.assign(Object.create(null), value, added));
  if (names.length === 0) return fc.oneof(extra, anyValue);
  const changed = fc
    .tuple(fc.constantFrom(...names), anyValue)
    .map(([name, one]) => ({ ...value, [name]: one }));
  const missing = fc
    .constantFrom(...names)
    .map((name) => Object.fromEntries(Object.entries(value).filter(([other]) => other !== name)));
  return fc.oneof(changed, missing, extra, anyValue);
}

/** JSON.stringify, except that numbers without JSON form become ones that no double holds. */
function toJson(value: unknown): string {
  return (
    JSON.stringify(value, (_, one) => (typeof one === "number" && !Number.isFinite(one) ? 1e308 : one)) ?? ""
  );
}

const rawBody = fc.oneof(
  anyText,
  fc.json({ maxDepth: 4 }),
  fc.integer({ min: 1, max: 5_000 }).map((depth) => '{"a":'.repeat(depth)),
  fc.constantFrom("", "null", "[]", "0", '"text"', "{}", '{"a":1e400}', "\ufeff{}"),
);

function bodyOf(
  document: ContractDocument,
  operation: Operation,
  known: Known,
): fc.Arbitrary<string | undefined> {
  if (operation.body === null) return fc.constant(undefined);
  const valid = validValue(document.schemas, operation.body, known);
  return fc.oneof(
    { weight: 5, arbitrary: valid.map(toJson) },
    { weight: 4, arbitrary: valid.chain(broken).map(toJson) },
    { weight: 1, arbitrary: rawBody },
  );
}

/** A parameter's text: mostly one that its schema takes. */
function parameterText({ schema }: Parameter, schemas: Schemas, known: Known): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 6, arbitrary: validValue(schemas, schema, known).map(String) },
    { weight: 2, arbitrary: anyText },
    { weight: 1, arbitrary: anyNumber.map(String) },
  );
}

/** Path segments that a URL can carry: an empty segment and dots would name another path. */
const isSegment = (text: string) => text !== "" && !/^(\.|%2e)+$/i.test(text);
const headerText = (text: string) => text.replaceAll(/[^\x20-\x7e]/g, "~").trim();

/**
 * A request to one of the operations of the document, with a credential, without one, or with an
 * invalid one.
 */
export function arbitraryRequest(document: ContractDocument, known: Known): fc.Arbitrary<GeneratedRequest> {
  return fc.constantFrom(...document.operations).chain((operation) => {
    const text = (parameter: Parameter) => parameterText(parameter, document.schemas, known);
    const named = (where: Parameter["in"]) => operation.parameters.filter((one) => one.in === where);
    const values = (where: Parameter["in"]) =>
      fc.record(Object.fromEntries(named(where).map((one) => [one.name, text(one)])), {
        requiredKeys: named(where)
          .filter((one) => one.required)
          .map((one) => one.name),
      });
    const path = fc.record(
      Object.fromEntries(
        named("path").map((one) => [
          one.name,
          text(one)
            .map((it) => it.toWellFormed())
            .filter(isSegment),
        ]),
      ),
    );
    const unknownQuery = fc.option(fc.tuple(anyText, anyText), { freq: 12, nil: null });
    const credential = fc.oneof(
      { weight: 10, arbitrary: fc.constantFrom(...known.credentials) },
      { weight: 1, arbitrary: fc.constantFrom(null, "ffs_unknown", "a.b.c", "x") },
    );
    const type = fc.oneof(
      { weight: 20, arbitrary: fc.constant("application/json") },
      {
        weight: 1,
        arbitrary: fc.constantFrom("text/plain", "application/xml", "application/json; charset=latin1"),
      },
    );
    const parts = fc.record({
      path,
      query: values("query"),
      // Another tenant or seller is mostly refused. If that came too often, nothing else would be
      // tested.
      header: fc.oneof({ weight: 5, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: values("header") }),
      unknownQuery,
      credential,
      type,
      body: bodyOf(document, operation, known),
    });
    return parts.map((part) => toRequest(operation, part));
  });
}

interface Parts {
  path: Record<string, string | undefined>;
  query: Record<string, string | undefined>;
  header: Record<string, string | undefined>;
  unknownQuery: [string, string] | null;
  credential: string | null;
  type: string;
  body: string | undefined;
}

function toRequest(operation: Operation, part: Parts): GeneratedRequest {
  const headers = new Headers();
  for (const [name, value] of Object.entries(part.header)) headers.set(name, headerText(value ?? ""));
  if (part.credential !== null) headers.set("authorization", `Bearer ${part.credential}`);
  if (part.body !== undefined) headers.set("content-type", part.type);
  const pairs = [...Object.entries(part.query), ...(part.unknownQuery ? [part.unknownQuery] : [])];
  const query = pairs.map((pair) =>
    pair.map((text) => encodeURIComponent((text ?? "").toWellFormed())).join("="),
  );
  const path = operation.path.replaceAll(/\{(\w+)\}/g, (_, name) =>
    encodeURIComponent(part.path[name] ?? ""),
  );
  return {
    operation,
    path: query.length === 0 ? path : `${path}?${query.join("&")}`,
    init: { method: operation.method, headers, body: part.body },
    what: part.credential === null ? "no credential" : "with a credential",
  };
}
