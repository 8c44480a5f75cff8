/**
 * The OpenAPI document of a running application, read so that tests can walk every operation of it.
 */
import type { TestApi } from "../factories.ts";

// biome-ignore lint/suspicious/noExplicitAny: a JSON Schema is whatever the document says
export type Schema = any;

export interface Parameter {
  name: string;
  in: "path" | "query" | "header";
  required: boolean;
  schema: Schema;
}

export interface Operation {
  id: string;
  method: string;
  /** With its parameters in braces. */
  path: string;
  parameters: Parameter[];
  /** The JSON body's schema; null where there is none. */
  body: Schema | null;
  /** Empty for an operation that needs no credential. */
  security: Record<string, string[]>[];
  /** Status to media type to schema; no media types where there is no body. */
  responses: Map<number, Record<string, Schema>>;
  /** Status to the names of its header fields, in lower case. */
  headers: Map<number, string[]>;
}

export interface ContractDocument {
  schemas: Record<string, Schema>;
  operations: Operation[];
}

export async function readDocument(call: TestApi["call"]): Promise<ContractDocument> {
  const { body: document } = await call("GET", "/openapi.json");
  const part = (given: Schema) => followed(document, given);
  const operations = Object.entries<Record<string, Schema>>(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, one]): Operation => {
      const responses = Object.entries<Schema>(one.responses).map(([status, response]) => {
        const { content = {} } = part(response);
        const schemas = Object.entries<Schema>(content).map(([type, media]) => [type, media.schema]);
        return [Number(status), Object.fromEntries(schemas)] as const;
      });
      return {
        id: one.operationId,
        method: method.toUpperCase(),
        path,
        parameters: (one.parameters ?? []).map(part),
        body: one.requestBody?.content["application/json"]?.schema ?? null,
        security: one.security ?? [],
        responses: new Map(responses),
        headers: new Map(
          Object.entries<Schema>(one.responses).map(([status, response]) => [
            Number(status),
            Object.keys(part(response).headers ?? {}).map((name) => name.toLowerCase()),
          ]),
        ),
      };
    }),
  );
  return { schemas: document.components.schemas, operations };
}

/** A parameter, header, response or schema itself where the document refers to it by name. */
export function followed(document: Schema, given: Schema): Schema {
  if (typeof given?.$ref !== "string") return given;
  const path: string[] = given.$ref.slice(2).split("/");
  return followed(
    document,
    path.reduce((at, key) => at?.[key], document),
  );
}

/** The schema itself, past references and with `allOf` put together. */
export function resolve(schemas: ContractDocument["schemas"], schema: Schema): Schema {
  if (schema.$ref) return resolve(schemas, schemas[schema.$ref.split("/").at(-1)]);
  if (!schema.allOf) return schema;
  const parts: Schema[] = schema.allOf.map((part: Schema) => resolve(schemas, part));
  return {
    ...parts[0],
    properties: Object.assign({}, ...parts.map((part) => part.properties)),
    required: parts.flatMap((part) => part.required ?? []),
    additionalProperties: parts.at(-1)?.additionalProperties,
  };
}

const FORMATS: Record<string, string> = {
  uuid: "00000000-0000-7000-8000-00000000dead",
  email: "sample@example.com",
  uri: "https://shop.example/sample.jpg",
  "date-time": "2030-11-21T09:30:00.000Z",
  date: "2026-11-21",
};

/** A value that the schema takes, with every property that it names. */
export function sampleOf(schemas: ContractDocument["schemas"], given: Schema): unknown {
  const schema = resolve(schemas, given);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.example !== undefined && !schema.format) return schema.example;
  if (schema.anyOf) return sampleOf(schemas, schema.anyOf[0]);
  if (type === "object") {
    const entries = Object.entries(schema.properties ?? {});
    return Object.fromEntries(entries.map(([name, property]) => [name, sampleOf(schemas, property)]));
  }
  if (type === "array") return [sampleOf(schemas, schema.items)];
  if (type === "integer" || type === "number") return schema.default ?? schema.minimum ?? 1;
  if (type === "boolean") return true;
  if (schema.pattern === "^[A-Z]{3}$") return "EUR";
  return FORMATS[schema.format] ?? "sample-text";
}

/** The path with every parameter replaced, percent-encoded. */
export function fillPath(path: string, value: string): string {
  return path.replaceAll(/\{\w+\}/g, () => encodeURIComponent(value));
}
