/**
 * Every schema of a request gets inputs that are broken in one place. No finding is in zod's own
 * words, nor in the fallback for the lack of better ones. Every message goes on after the name of
 * its field.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { z } from "zod";
import { fieldErrorsOf } from "../../src/core/validation.ts";
import { createTestApi, type TestApi, WORDS_OF_ZOD } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { broken, type Known, validValue } from "./arbitraries.ts";
import { type ContractDocument, readDocument, type Schema } from "./document.ts";

const CASES_A_SCHEMA = 150;
const NOTHING_KNOWN: Known = { credentials: [], ids: ["p-1"] };

/** The fallbacks of core/explain-issue.ts, and patterns that only their author can read. */
const SPEECHLESS = /is not accepted|must match \/|must be of the format|undefined|\[object|NaN/;
const PREDICATE = /^(its|must|has|is|looks|holds|goes)\b/;

interface Part {
  name: string;
  zod: z.ZodType;
  /** The same as the document tells it. */
  schema: Schema;
}

let api: TestApi;
let document: ContractDocument;
const parts: Part[] = [];

beforeAll(async () => {
  api = await createTestApi();
  document = await readDocument(api.call);
  for (const definition of api.app.openAPIRegistry.definitions) {
    if (definition.type !== "route") continue;
    const { operationId = "", request = {} } = definition.route;
    const operation = document.operations.find(({ id }) => id === operationId);
    const media = request.body?.content["application/json"];
    const body = media && "schema" in media ? media.schema : null;
    if (body instanceof z.ZodType)
      parts.push({ name: `${operationId} body`, zod: body, schema: operation?.body });
    for (const [where, kind] of [
      ["query", "query"],
      ["params", "path"],
    ] as const) {
      const zod = request[where];
      if (!(zod instanceof z.ZodType)) continue;
      const named = operation?.parameters.filter((one) => one.in === kind) ?? [];
      const properties = Object.fromEntries(named.map((one) => [one.name, one.schema]));
      const required = named.filter((one) => one.required).map((one) => one.name);
      parts.push({ name: `${operationId} ${where}`, zod, schema: { type: "object", properties, required } });
    }
  }
});
afterAll(cleanup);

function faultOf(message: string): string | null {
  if (WORDS_OF_ZOD.test(message)) return "zod's own words";
  if (SPEECHLESS.test(message.replaceAll(/"[^"]*"/g, ""))) return "no words";
  if (!PREDICATE.test(message)) return "does not go on after the name of its field";
  return /\.$/.test(message) ? "ends like a sentence" : null;
}

/** Query values arrive as text. */
const asSent = (name: string, value: unknown) =>
  name.endsWith("body") || typeof value !== "object" || value === null
    ? value
    : Object.fromEntries(
        Object.entries(value).map(([key, one]) => [
          key,
          typeof one === "object" ? JSON.stringify(one) : String(one),
        ]),
      );

describe("the findings of every schema of a request", () => {
  test("are in our words", () => {
    const faults = new Set<string>();
    const silent: string[] = [];
    let found = 0;
    for (const { name, zod, schema } of parts) {
      const bad = validValue(document.schemas, schema, NOTHING_KNOWN).chain(broken);
      let refused = 0;
      const property = fc.property(bad, (value) => {
        const { error } = zod.safeParse(asSent(name, value));
        for (const { path, message } of error ? fieldErrorsOf(error) : []) {
          refused += 1;
          const fault = faultOf(message);
          if (fault !== null) faults.add(`${name}, ${path}: ${message} (${fault})`);
        }
      });
      fc.assert(property, { numRuns: CASES_A_SCHEMA, seed: 7 });
      found += refused;
      if (refused === 0) silent.push(name);
    }
    expect([...faults].slice(0, 20)).toEqual([]);
    expect(parts.length).toBeGreaterThan(50);
    expect(found).toBeGreaterThan(parts.length * 50);
    // A path that takes whatever a URL can hold refuses nothing.
    expect(silent.filter((name) => !name.endsWith(" params"))).toEqual([]);
  });

  test("would be caught if a schema had zod's words", () => {
    const words = [
      z.string(),
      z.number().min(1),
      z.strictObject({}),
      z.enum(["a"]),
      z.iso.datetime(),
      z.union([z.null(), z.object({})]),
    ];
    const { customError } = z.config();
    z.config({ customError: undefined });
    const messages = words.flatMap((schema) => {
      const { error } = schema.safeParse(
        schema instanceof z.ZodNumber ? 0 : schema instanceof z.ZodObject ? { x: 1 } : 7,
      );
      return error?.issues.map(({ message }) => message) ?? [];
    });
    z.config({ customError });
    expect(messages.map(faultOf)).toEqual(words.map(() => "zod's own words"));
  });
});
