/**
 * The published contract: a valid and true OpenAPI 3.1 document, and documentation that loads
 * nothing from elsewhere.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parse } from "yaml";
import { ERRORS } from "../../src/core/errors.ts";
import {
  createTenant,
  createTestApi,
  eventInput,
  rollUpAll,
  type TestApi,
  type TestTenant,
} from "../factories.ts";
import { cleanup } from "../harness.ts";
import { createProduct, orderInput } from "../orders/shop.ts";
import { followed } from "./document.ts";

type Json = Record<string, unknown>;

interface Operation {
  method: string;
  path: string;
  operationId: string;
  summary: string;
  tags: string[];
  security: Record<string, string[]>[];
  parameters?: { name: string; in: string; required?: boolean; schema: Json }[];
  requestBody?: { required?: boolean; content: Record<string, { schema: Json }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: Json }> }>;
}

let api: TestApi;
let tenant: TestTenant;
let document: Json & {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Json; securitySchemes: Json };
};
const operations: Operation[] = [];

beforeAll(async () => {
  api = await createTestApi();
  tenant = await createTenant(api);
  document = (await api.call("GET", "/openapi.json")).body;
  for (const [path, item] of Object.entries(document.paths))
    for (const [method, operation] of Object.entries(item))
      operations.push({ ...withoutReferences(operation), method: method.toUpperCase(), path });
});
afterAll(cleanup);

/** Parameters, headers and responses are defined once and referred to. */
function withoutReferences(operation: Operation): Operation {
  const { parameters = [], responses } = operation;
  return {
    ...operation,
    parameters: parameters.map((one) => followed(document, one)),
    responses: Object.fromEntries(
      Object.entries(responses).map(([status, one]) => [status, followed(document, one)]),
    ),
  };
}

describe("the document", () => {
  test("is OpenAPI 3.1 and says what it is", () => {
    expect(document.openapi).toBe("3.1.0");
    expect(document.info).toMatchObject({ title: "Footfall", version: expect.any(String) });
    expect(operations.length).toBeGreaterThan(20);
  });

  test("names every operation once", () => {
    const ids = operations.map(({ operationId }) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { operationId, summary, tags } of operations) {
      expect(operationId).toMatch(/^[a-z][A-Za-z]+$/);
      expect(summary?.length).toBeGreaterThan(5);
      expect(tags?.length).toBe(1);
    }
  });

  test("has no reference that leads nowhere, and no schema that nobody uses", () => {
    const references = new Set<string>();
    walk(document, (node) => {
      if (typeof node.$ref === "string") references.add(node.$ref);
    });
    for (const reference of references) {
      const target = reference
        .slice(2)
        .split("/")
        .reduce<unknown>((at, key) => (at as Json)?.[key], document);
      expect(`${reference}: ${typeof target}`).toBe(`${reference}: object`);
    }
    const named = Object.entries(document.components)
      .filter(([kind]) => kind !== "securitySchemes")
      .flatMap(([kind, parts]) => Object.keys(parts).map((name) => `#/components/${kind}/${name}`));
    expect(named.filter((name) => !references.has(name))).toEqual([]);
  });

  test("keeps to the schema language of 3.1", () => {
    const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];
    walk({ paths: document.paths, schemas: document.components.schemas }, (node, trail) => {
      // `nullable` was 3.0; in 3.1 it is a type.
      expect(`${trail}: ${"nullable" in node && typeof node.nullable === "boolean"}`).toBe(`${trail}: false`);
      const { type } = node;
      if (
        trail.endsWith("properties") ||
        type === undefined ||
        (typeof type === "object" && !Array.isArray(type))
      )
        return;
      for (const one of [type].flat()) if (trail.includes("schema")) expect(TYPES).toContain(one as string);
    });
  });

  test("has no schema that forbids its own parts", () => {
    walk(document, (node, trail) => {
      const parts = ((node.allOf ?? []) as Json[]).map((part) =>
        typeof part.$ref === "string"
          ? (document.components.schemas[part.$ref.split("/").at(-1) ?? ""] as Json)
          : part,
      );
      const closed = parts.length > 1 && parts.some((part) => part.additionalProperties === false);
      expect(`${trail}: ${closed}`).toBe(`${trail}: false`);
    });
  });

  test("declares every parameter of a path, and only those", () => {
    for (const { path, parameters = [] } of operations) {
      const named = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? "");
      const declared = parameters.filter((one) => one.in === "path");
      expect(declared.map(({ name }) => name).sort()).toEqual(named.sort());
      expect(declared.every(({ required, schema }) => required === true && schema !== undefined)).toBe(true);
    }
  });

  test("documents every problem of every operation in the one shape", () => {
    for (const { path, method, security, requestBody, responses } of operations) {
      const expected = ["400", "500", "503"];
      if (security.length > 0) expected.push("401", "403");
      if (requestBody) expected.push("413", "415");
      if (path.includes("{") && !path.startsWith("/analytics")) expected.push("404");
      const missing = expected.filter((status) => !(status in responses));
      expect(`${method} ${path} lacks ${missing}`).toBe(`${method} ${path} lacks `);
      expect(Object.keys(responses).some((status) => status.startsWith("2"))).toBe(true);
      for (const [status, response] of Object.entries(responses)) {
        expect(response.description).toBeTruthy();
        const isHealth = /health|ready/.test(path) && status === "503";
        if (Number(status) < 400 || isHealth) continue;
        expect(response.content?.["application/problem+json"]?.schema).toEqual({
          $ref: "#/components/schemas/Problem",
        });
      }
    }
    const { ErrorCode } = document.components.schemas as Record<string, { enum: string[] }>;
    expect(ErrorCode?.enum.toSorted()).toEqual(Object.keys(ERRORS).sort());
  });

  test("requires every request body", () => {
    for (const { requestBody, method, path } of operations) {
      if (requestBody) expect(`${path} ${requestBody.required}`).toBe(`${path} true`);
      // Operations on one resource, or on all of it, may need no longer name.
      const bare = path.includes("{") || path.endsWith("/clear");
      if (["POST", "PUT", "PATCH"].includes(method) && !bare) expect(requestBody).toBeDefined();
    }
  });

  test("knows the security schemes it asks for", () => {
    const known = Object.keys(document.components.securitySchemes);
    for (const { security } of operations)
      for (const one of security) for (const name of Object.keys(one)) expect(known).toContain(name);
    expect(known.sort()).toEqual(["apiKey", "bearer"]);
  });

  test("is made once, however often it is read", async () => {
    const registered = () => api.app.openAPIRegistry.definitions.length;
    const [before, first] = [registered(), await api.call("GET", "/openapi.json")];
    for (let n = 0; n < 5; n += 1) {
      expect((await api.call("GET", "/openapi.json")).body).toEqual(first.body);
      await api.call("GET", "/openapi.yaml");
    }
    expect(registered()).toBe(before);
  });

  test("is the same as YAML", async () => {
    const { body, headers } = await api.call("GET", "/openapi.yaml");
    expect(headers.get("content-type")).toBe("application/yaml");
    expect(parse(body)).toEqual(document);
  });
});

describe("the answers", () => {
  test("without credentials are 401, or the operation is public", async () => {
    for (const { method, path, security } of operations) {
      const { status } = await api.call(
        method,
        path.replaceAll(/\{\w+\}/g, "x"),
        method === "GET" ? {} : { json: {} },
      );
      if (security.length > 0) expect(`${method} ${path}: ${status}`).toBe(`${method} ${path}: 401`);
      else expect([401, 403]).not.toContain(status);
    }
  });

  test("are of the documented status, media type and keys", async () => {
    const event = eventInput({ type: "purchase", userId: "u", properties: { price: 2, country: "DE" } });
    const { body: made } = await api.call("POST", "/events", { as: tenant.key, json: event });
    await rollUpAll(api);
    const product = { id: "p-1", name: "Tea", price: 2, category: "tea" };
    await api.call("POST", "/products", { as: tenant.key, json: product });
    const { body: webhook } = await api.call("POST", "/webhooks", {
      as: tenant.key,
      json: { url: "https://1.1.1.1/" },
    });
    await api.call("POST", `/webhooks/${webhook.id}/test`, { as: tenant.key });
    const headers = { "content-type": "text/csv" };
    const { body: queued } = await api.call("POST", "/products/import", {
      as: tenant.key,
      body: "name,price\nx,1\n",
      headers,
    });
    const { body: order } = await api.call("POST", "/orders", { as: tenant.key, json: orderInput() });
    const idOf = (path: string) => {
      if (path.startsWith("/orders")) return order.id;
      if (path.startsWith("/events")) return made.id;
      if (path.startsWith("/webhooks")) return webhook.id;
      return path.startsWith("/products/imports") ? queued.importId : "p-1";
    };
    const query: Record<string, string> = { getBreakdown: "?property=country" };
    for (const operation of operations.filter(
      ({ method, path }) => method === "GET" && !path.includes("me"),
    )) {
      const path = operation.path.replaceAll(/\{\w+\}/g, idOf(operation.path));
      const { status, headers, body } = await api.call("GET", path + (query[operation.operationId] ?? ""), {
        as: tenant.key,
      });
      const documented = operation.responses[String(status)];
      expect(`${path}: ${status} ${documented !== undefined}`).toBe(`${path}: 200 true`);
      const [type = "", { schema = {} } = {}] = Object.entries(documented?.content ?? {})[0] ?? [];
      expect(headers.get("content-type")).toStartWith(type);
      if (type === "application/json") expectShape(body, schema, path);
    }
  });

  test("of writes too", async () => {
    const operation = (id: string) => operations.find(({ operationId }) => operationId === id);
    await createProduct(api, tenant, "bought");
    const examples: [string, Json][] = [
      ["createEvent", eventInput()],
      ["createEvents", { events: [eventInput(), {}] }],
      ["register", { email: "a@example.com", password: "12345678" }],
      ["login", { email: "a@example.com", password: "12345678" }],
      ["createApiKey", { name: "key" }],
      ["createProduct", { name: "Tea", price: 4.95, quantity: 3 }],
      ["createWebhook", { url: "https://1.1.1.1/", topics: ["order.created"] }],
      ["createPurchase", { productId: "bought" }],
      ["createOrder", orderInput()],
    ];
    for (const [id, json] of examples) {
      const { method = "", path = "", responses = {} } = operation(id) ?? {};
      const { status, body } = await api.call(method, path, { as: tenant.key, json });
      const schema = responses[String(status)]?.content?.["application/json"]?.schema;
      expect(`${id} ${status} ${schema !== undefined}`).toBe(`${id} ${status} true`);
      expect(status).toBeLessThan(300);
      expectShape(body, schema ?? {}, id);
    }
  });
});

describe("/docs", () => {
  test("loads its assets from here and names nobody else", async () => {
    const page = await api.call("GET", "/docs");
    expect(page.status).toBe(200);
    expect(page.headers.get("content-type")).toStartWith("text/html");
    expect(page.body).not.toMatch(/(https?:)?\/\/[a-z0-9-]+\.[a-z]/i);
    expect(page.headers.get("content-security-policy")).toContain("default-src 'none'; script-src 'self';");
    expect(page.body).not.toMatch(/<script>|<script [^>]*>[^<]| on[a-z]+="/);
    const assets = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? "");
    expect(assets.length).toBe(3);
    for (const asset of assets) {
      const { status, headers, body } = await api.call("GET", asset);
      expect(status).toBe(200);
      expect(headers.get("content-type")).toMatch(
        asset.endsWith(".css") ? /^text\/css/ : /^text\/javascript/,
      );
      if (!asset.endsWith("boot.js")) expect(body.length).toBeGreaterThan(50_000);
      if (asset.endsWith(".css")) expect(body).not.toMatch(/url\(["']?https?:|@import/);
    }
  });

  test("is where / leads", async () => {
    const { status, headers } = await api.call("GET", "/");
    expect([status, headers.get("location")]).toEqual([302, "/docs"]);
  });
});

/**
 * Keys and types only, references followed: every key is documented, every required one is there.
 */
function expectShape(value: unknown, schema: Json, trail: string): void {
  if (typeof schema.$ref === "string") {
    const name = schema.$ref.split("/").at(-1) ?? "";
    expectShape(value, document.components.schemas[name] as Json, trail);
    return;
  }
  const parts = (schema.allOf ?? []) as Json[];
  const resolved = parts.map((part) =>
    part.$ref ? (document.components.schemas[String(part.$ref).split("/").at(-1) ?? ""] as Json) : part,
  );
  const all = [schema, ...resolved];
  const properties = Object.assign({}, ...all.map((one) => one.properties ?? {})) as Record<string, Json>;
  const types = [schema.type ?? []].flat();
  if (types.length > 0)
    expect(
      `${trail}: ${types.includes(typeName(value)) || (types.includes("number") && typeof value === "number")}`,
    ).toBe(`${trail}: true`);
  if (Array.isArray(value)) {
    for (const one of value.slice(0, 3)) expectShape(one, (schema.items ?? {}) as Json, `${trail}[]`);
    return;
  }
  if (typeof value !== "object" || value === null || Object.keys(properties).length === 0) return;
  expect(`${trail}: ${Object.keys(value).filter((key) => !(key in properties))}`).toBe(`${trail}: `);
  for (const key of all.flatMap((one) => (one.required ?? []) as string[]))
    expect(value).toHaveProperty([key]);
  for (const [key, one] of Object.entries(value)) expectShape(one, properties[key] ?? {}, `${trail}.${key}`);
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

function walk(node: unknown, visit: (node: Json, trail: string) => void, trail = ""): void {
  if (typeof node !== "object" || node === null) return;
  if (!Array.isArray(node)) visit(node as Json, trail);
  for (const [key, child] of Object.entries(node)) walk(child, visit, `${trail}/${key}`);
}
