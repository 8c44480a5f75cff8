/**
 * Every example of the document is valid by its own schema, and the server accepts those of bodies.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { STANDARD_TYPES } from "../../src/features/events/schema.ts";
import { createPerson, createTenant, createTestApi, type TestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { followed, type Schema } from "./document.ts";

interface BodyExample {
  operationId: string;
  method: string;
  path: string;
  mediaType: string;
  name: string;
  value: unknown;
  /** Of its schema. */
  pointer: string;
}

let api: TestApi;
let document: Schema;
let ajv: Ajv2020;
let bodies: BodyExample[];
const missing: string[] = [];

beforeAll(async () => {
  api = await createTestApi({ RATE_LIMIT_AUTH: "off" });
  ({ body: document } = await api.call("GET", "/openapi.json"));
  ajv = new Ajv2020({ strict: false, formats: FORMATS, validateSchema: false });
  ajv.addSchema(document, "openapi.json");
  bodies = Object.entries<Record<string, Schema>>(document.paths).flatMap(([path, item]) =>
    Object.entries(item).flatMap(([method, { operationId, requestBody }]) =>
      Object.entries<Schema>(requestBody?.content ?? {}).flatMap(([mediaType, media]) => {
        const examples = examplesOf(media);
        if (examples.length === 0) missing.push(`${operationId}: its body as ${mediaType} has no example`);
        return examples.map(([name, value]) => ({
          operationId,
          method: method.toUpperCase(),
          path,
          mediaType,
          name,
          value,
          pointer: pointerTo("paths", path, method, "requestBody", "content", mediaType, "schema"),
        }));
      }),
    ),
  );
});
afterAll(cleanup);

function examplesOf(media: Schema): [string, unknown][] {
  if (media.examples) return Object.entries<Schema>(media.examples).map(([name, one]) => [name, one.value]);
  if (media.example !== undefined) return [["example", media.example]];
  const { example } = followed(document, media.schema);
  return example === undefined ? [] : [["example", example]];
}

const FORMATS = {
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  email: /^[^@\s]+@[^@\s]+$/,
  uri: /^https?:\/\//,
  date: /^\d{4}-\d\d-\d\d$/,
  "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/,
  binary: true,
} as const;

/** What is wrong with a value, by the schema at a JSON pointer into the document. */
function faultOf(pointer: string, value: unknown): string | null {
  const validate = ajv.getSchema(`openapi.json#${pointer}`);
  if (!validate) return "there is no such schema";
  return validate(value) ? null : JSON.stringify(validate.errors);
}

/** A JSON pointer as a fragment of a URL. */
const pointerTo = (...keys: string[]) =>
  keys.map((key) => `/${encodeURIComponent(key.replaceAll("~", "~0").replaceAll("/", "~1"))}`).join("");

test("every request body has a whole example, which is valid", () => {
  expect(missing).toEqual([]);
  expect(new Set(bodies.map(({ operationId }) => operationId)).size).toBeGreaterThan(20);
  const faults = bodies.map(({ operationId, name, pointer, value }) => [
    operationId,
    name,
    faultOf(pointer, value),
  ]);
  expect(faults.filter(([, , fault]) => fault !== null)).toEqual([]);
});

test("every standard type of event has an example with its properties", () => {
  const events = bodies.filter(({ operationId }) => operationId === "createEvent");
  const types = events
    .filter(({ mediaType }) => mediaType === "application/json")
    .map(({ value }) => (value as { type: string }).type);
  expect(types).toEqual([...STANDARD_TYPES]);
  for (const { value } of events)
    expect(Object.keys((value as { properties: object }).properties).length).toBeGreaterThan(0);
});

test("every other example is valid by the schema that it stands at", () => {
  let found = 0;
  const faults: string[] = [];
  const walk = (node: Schema, at: string) => {
    if (typeof node !== "object" || node === null) return;
    if (node.example !== undefined) {
      found += 1;
      // A parameter, a header or a media type has its example beside its schema; a schema contains
      // its own.
      const fault = faultOf(node.schema ? `${at}/schema` : at, node.example);
      if (fault !== null) faults.push(`${at}: ${fault}`);
    }
    for (const [key, child] of Object.entries<Schema>(node)) {
      if (key === "example" || key === "examples") continue;
      const below = at + pointerTo(key);
      if (key !== "properties") walk(child, below);
      else for (const [name, one] of Object.entries<Schema>(child)) walk(one, below + pointerTo(name));
    }
  };
  walk(document, "");
  expect(faults).toEqual([]);
  expect(found).toBeGreaterThan(50);
});

/**
 * No test may depend on a name server, or on a clock that decides whether an event is too old or
 * ahead.
 */
function hereAndNow(operationId: string, value: unknown): unknown {
  if (operationId === "createWebhook") return { ...(value as object), url: "https://1.1.1.1/hook" };
  const hasTime = typeof value === "object" && value !== null && "timestamp" in value;
  return hasTime ? { ...value, timestamp: Date.now() } : value;
}

test("the server takes the example of every body", async () => {
  const { tenantId, key } = await createTenant(api);
  const { token } = await createPerson(api, tenantId, "admin");
  await api.call("POST", "/products", { as: key, json: { id: "tea-1", name: "Green tea", price: 4.95 } });
  const refused: string[] = [];
  for (const { operationId, method, path, mediaType, name, value } of bodies) {
    const isPublic = operationId === "register" || operationId === "login";
    const json = hereAndNow(operationId, value);
    const form = new FormData();
    if (mediaType === "multipart/form-data")
      for (const [part, text] of Object.entries(value as Record<string, string>))
        form.append(part, new Blob([text]), "products.csv");
    const init = {
      method,
      headers: {
        ...(isPublic ? {} : { authorization: `Bearer ${token}` }),
        ...(mediaType === "multipart/form-data" ? {} : { "content-type": mediaType }),
      },
      body:
        mediaType === "multipart/form-data" ? form : typeof json === "string" ? json : JSON.stringify(json),
    };
    const response = await api.app.request(path.replaceAll(/\{\w+\}/g, "tea-1"), init);
    // An id of an example may be absent or taken here, but it is well-formed.
    const text = await response.text();
    const accepted =
      response.ok || [401, 404, 409].includes(response.status) || text.includes('"code":"wrong_password"');
    if (!accepted) refused.push(`${operationId} ${name}: ${response.status} ${text}`);
  }
  expect(refused).toEqual([]);
});
