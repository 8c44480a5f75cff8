/**
 * The document as generators of clients read it: everything declared, named once, and optional
 * where it is optional.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { accessRule, type OperationId } from "../../src/core/access.ts";
import { STANDARD_TYPES } from "../../src/features/events/schema.ts";
import { createTestApi } from "../factories.ts";
import { cleanup } from "../harness.ts";
import { followed, type Schema } from "./document.ts";

interface Operation {
  operationId: OperationId;
  method: string;
  path: string;
  tags: string[];
  parameters: Schema[];
  requestBody?: { content: Record<string, Schema> };
  responses: Record<string, Schema>;
}

let text: string;
let document: Schema;
let operations: Operation[];

beforeAll(async () => {
  const api = await createTestApi();
  text = await (await api.app.request("/openapi.json")).text();
  document = JSON.parse(text);
  operations = Object.entries<Record<string, Schema>>(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, one]) => ({ parameters: [], ...one, method, path })),
  );
});
afterAll(cleanup);

/** For each chosen operation, what `missing` names. Fails with all of them. */
function expectOfEach(which: (one: Operation) => boolean, missing: (one: Operation) => string[]): void {
  const chosen = operations.filter(which);
  expect(chosen.length).toBeGreaterThan(0);
  const found = chosen.flatMap((one) => missing(one).map((what) => `${one.operationId}: ${what}`));
  expect(found).toEqual([]);
}

const names = (parameters: Schema[], where: string) =>
  parameters
    .map((one) => followed(document, one))
    .filter((one) => one.in === where)
    .map((one) => one.name);
const lacks = (there: string[], wanted: string[]) => wanted.filter((name) => !there.includes(name));
const headersOf = (response: Schema) => Object.keys(followed(document, response).headers ?? {});
const isGood = (status: string) => status.startsWith("2");

/** Every schema of the document with its place. What is below an example is no schema. */
function schemas(): { at: string; schema: Schema }[] {
  const found: { at: string; schema: Schema }[] = [];
  const walk = (node: Schema, at: string) => {
    if (typeof node !== "object" || node === null) return;
    if (!Array.isArray(node)) found.push({ at, schema: node });
    for (const [key, child] of Object.entries<Schema>(node)) {
      if (key === "example" || key === "examples") continue;
      if (key === "properties")
        for (const [name, one] of Object.entries<Schema>(child)) walk(one, `${at}/${name}`);
      else walk(child, `${at}/${key}`);
    }
  };
  walk(document.paths, "");
  walk(document.components, "");
  return found;
}

describe("every operation", () => {
  test("declares the header fields of its answers", () => {
    expectOfEach(
      () => true,
      ({ operationId, responses }) => {
        const wanted = ["X-Request-Id"];
        if (accessRule(operationId).limit !== null) wanted.push("RateLimit", "RateLimit-Policy");
        return Object.entries(responses).flatMap(([status, response]) =>
          lacks(headersOf(response), [
            ...wanted,
            ...(/^(429|503)$/.test(status) && !/health|readiness/i.test(operationId) ? ["Retry-After"] : []),
          ]),
        );
      },
    );
  });

  test("declares 500, and the caller's headers", () => {
    expectOfEach(
      () => true,
      ({ operationId, parameters, responses }) => {
        const rule = accessRule(operationId);
        const wanted = ["X-Request-Id", ...("public" in rule ? [] : ["X-Tenant-Id", "X-Seller-Id"])];
        return [...lacks(Object.keys(responses), ["500"]), ...lacks(names(parameters, "header"), wanted)];
      },
    );
  });

  test("that reads one resource, or analytics, has an ETag and a 304", () => {
    const oneResource =
      /^\/(products|events|orders|webhooks)\/\{id\}$|^\/(tenants\/current|auth\/me)$|^\/products\/imports\/\{id\}$/;
    expectOfEach(
      ({ method, path, tags, responses }) =>
        method === "get" &&
        (oneResource.test(path) || tags.includes("Analytics")) &&
        "application/json" in (responses[200]?.content ?? {}),
      ({ parameters, responses }) => [
        ...lacks(Object.keys(responses), ["304"]),
        ...lacks(headersOf(responses[200]), ["ETag"]),
        ...lacks(names(parameters, "header"), ["If-None-Match"]),
      ],
    );
  });

  test("that takes an Idempotency-Key says how it is replayed and refused", () => {
    expectOfEach(
      ({ parameters }) => names(parameters, "header").includes("Idempotency-Key"),
      ({ responses }) => [
        ...lacks(Object.keys(responses), ["409", "422"]),
        ...Object.keys(responses)
          .filter(isGood)
          .flatMap((status) => lacks(headersOf(responses[status]), ["Idempotent-Replayed"])),
      ],
    );
    expect(
      operations
        .filter(({ parameters }) => names(parameters, "header").includes("Idempotency-Key"))
        .map(({ operationId }) => operationId),
    ).toEqual(expect.arrayContaining(["createProduct", "createPurchase", "createOrder"]));
  });
});

describe("what is told", () => {
  test("of headers and problems is told once and referred to", () => {
    expectOfEach(
      () => true,
      ({ parameters, responses }) => [
        ...parameters
          .filter((one) => one.in === "header" && one.name.startsWith("X-"))
          .map((one) => one.name),
        ...Object.entries(responses)
          .filter(([, one]) => "application/problem+json" in (one.content ?? {}))
          .map(([status]) => status),
      ],
    );
  });

  test("of an operation takes two kilobytes, what is shared included", () => {
    expect(text.length / operations.length).toBeLessThan(2_300);
  });

  test("as a list of names has a name where it is used twice", () => {
    const uses = new Map<string, string[]>();
    for (const { at, schema } of schemas()) {
      const list = Array.isArray(schema.enum) && schema.enum.length > 1 ? JSON.stringify(schema.enum) : null;
      if (list !== null) uses.set(list, [...(uses.get(list) ?? []), at]);
    }
    expect([...uses].filter(([, places]) => places.length > 1)).toEqual([]);
  });

  test("has the names that clients branch on", () => {
    const { schemas: named } = document.components;
    for (const name of [
      "Role",
      "Scope",
      "OrderStatus",
      "ProductStatus",
      "Topic",
      "Granularity",
      "Metric",
      "ErrorCode",
    ])
      expect(`${name} ${named[name]?.enum?.length > 1}`).toBe(`${name} true`);
    expect(named.EventType.anyOf[0].enum).toEqual([...STANDARD_TYPES]);
  });

  test("is a boolean where it is true or false", () => {
    const asText = schemas().filter(({ schema }) => schema.enum?.includes("true") && schema.enum.length > 1);
    expect(asText).toEqual([]);
    const flags = ["skipCache", "strict", "unread"];
    const types = operations
      .flatMap(({ parameters }) => parameters.map((one) => followed(document, one)))
      .filter((one) => flags.includes(one.name))
      .map((one) => one.schema.type);
    expect(new Set(types)).toEqual(new Set(["boolean"]));
  });

  test("as required is a property, wherever it is required", () => {
    const undefinedNames = schemas().flatMap(({ at, schema }) =>
      Array.isArray(schema.required) && schema.properties
        ? schema.required
            .filter((name: string) => !(name in schema.properties))
            .map((name: string) => `${at}: ${name}`)
        : Array.isArray(schema.required) && schema.type === undefined
          ? [`${at}: ${schema.required}`]
          : [],
    );
    expect(undefinedNames).toEqual([]);
  });

  test("of a body has no default that a generator would take for its presence", () => {
    const within = schemas().filter(({ at, schema }) => at.includes("/schemas/") && "default" in schema);
    expect(within.map(({ at }) => at)).toEqual([]);
    const { MetricsQuery } = document.components.schemas;
    expect(MetricsQuery.required).toEqual(["metrics"]);
    expect(MetricsQuery.properties.limit.description).toContain("Default: 100");
  });

  test("of a list is one shape with its paging fields", () => {
    for (const list of ["ProductList", "PurchaseList"])
      expect(document.components.schemas[list].required).toEqual([
        "items",
        "nextCursor",
        "page",
        "limit",
        "total",
      ]);
    const unpaged = operations
      .filter(({ responses }) => {
        const { content = {} } = responses[200] ?? {};
        const schema = followed(document, content["application/json"]?.schema ?? {});
        const { items, id, nextCursor, truncated } = schema.properties ?? {};
        return items && !id && !nextCursor && !truncated;
      })
      .map(({ operationId }) => operationId);
    // At most thirty.
    expect(unpaged.sort()).toEqual(["chooseProperties", "listProperties"]);
  });
});
