/** Every example of the document is valid by its own schema, and those of bodies are taken by the server. */
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
  schema: Schema;
}

let api: TestApi;
let document: Schema;
let bodies: BodyExample[];
const missing: string[] = [];

beforeAll(async () => {
  api = await createTestApi({ RATE_LIMIT_AUTH: "off" });
  ({ body: document } = await api.call("GET", "/openapi.json"));
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
          schema: media.schema,
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

function faultOf(schema: Schema, value: unknown): string | null {
  const formats = {
    uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
    email: /^[^@\s]+@[^@\s]+$/,
    uri: /^https?:\/\//,
    date: /^\d{4}-\d\d-\d\d$/,
    "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/,
    binary: true,
  } as const;
  const ajv = new Ajv2020({ strict: false, formats });
  const validate = ajv.compile({ ...schema, components: document.components });
  return validate(value) ? null : JSON.stringify(validate.errors);
}

test("every request body has a whole example, which is valid", () => {
  expect(missing).toEqual([]);
  expect(new Set(bodies.map(({ operationId }) => operationId)).size).toBeGreaterThan(20);
  const faults = bodies.map(({ operationId, name, schema, value }) => [
    operationId,
    name,
    faultOf(schema, value),
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
  const check = (at: string, schema: Schema, value: unknown) => {
    found += 1;
    const fault = faultOf(schema, value);
    if (fault !== null) faults.push(`${at}: ${fault}`);
  };
  const walk = (node: Schema, at: string) => {
    if (typeof node !== "object" || node === null) return;
    // A parameter, a header or a media type has its example beside its schema; a schema holds its own.
    if (node.example !== undefined) check(at, node.schema ?? node, node.example);
    for (const [key, child] of Object.entries<Schema>(node)) {
      if (key === "example" || key === "examples") continue;
      if (key === "properties")
        for (const [name, one] of Object.entries<Schema>(child)) walk(one, `${at}/${name}`);
      else walk(child, `${at}/${key}`);
    }
  };
  walk({ ...document, openapi: undefined }, "");
  expect(faults).toEqual([]);
  expect(found).toBeGreaterThan(50);
});

test("the server takes the example of every body", async () => {
  const { tenantId, key } = await createTenant(api);
  const { token } = await createPerson(api, tenantId, "admin");
  await api.call("POST", "/products", { as: key, json: { id: "tea-1", name: "Green tea", price: 4.95 } });
  const refused: string[] = [];
  for (const { operationId, method, path, mediaType, name, value } of bodies) {
    const isPublic = operationId === "register" || operationId === "login";
    // No name server is asked by a test.
    const json =
      operationId === "createWebhook" ? { ...(value as object), url: "https://1.1.1.1/hook" } : value;
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
    // What an example names may be absent or taken here; it is well-formed all the same.
    const accepted = response.ok || [401, 404, 409].includes(response.status);
    if (!accepted) refused.push(`${operationId} ${name}: ${response.status} ${await response.text()}`);
  }
  expect(refused).toEqual([]);
});
