/**
 * Requests made from the OpenAPI document of the running application, valid and broken. Every
 * answer has a status and a body of the document, and none is a 5xx. PROPERTY_CASES=20000 is the
 * slow mode; PROPERTY_SEED repeats a run.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import fc from "fast-check";
import {
  createPerson,
  createTenant,
  createTestApi,
  eventInput,
  readBody,
  rollUpAll,
  type TestApi,
} from "../factories.ts";
import { cleanup } from "../harness.ts";
import { orderInput } from "../orders/shop.ts";
import { arbitraryRequest, type GeneratedRequest, type Known } from "./arbitraries.ts";
import { type ContractDocument, type Operation, readDocument } from "./document.ts";

const CASES = Number(process.env.PROPERTY_CASES ?? 1_000);
const SEED = process.env.PROPERTY_SEED === undefined ? undefined : Number(process.env.PROPERTY_SEED);
const SLOW_MS = 2_000;
/** What HTTP and browsers need, and no client of this API branches on. */
const OF_EVERY_SERVER =
  /^(content-(type|length|security-policy)|cache-control|vary|x-content-type-options|referrer-policy|cross-origin-.*|x-frame-options|permissions-policy|x-accel-buffering|strict-transport-security)$/;

let api: TestApi;
let document: ContractDocument;
let known: Known;
const statuses = new Map<number, number>();
const validators = new Map<string, ValidateFunction>();

beforeAll(async () => {
  api = await createTestApi();
  document = await readDocument(api.call);
  const { tenantId, key } = await createTenant(api);
  const { userId } = await createPerson(api, tenantId, "customer");
  const { token } = await createPerson(api, tenantId, "admin");
  const event = eventInput({ type: "purchase", properties: { price: 12.5, country: "DE" } });
  const { body } = await api.call("POST", "/events", { as: key, json: event });
  await rollUpAll(api);
  const product = { id: "p-1", name: "Green tea", price: 4.95, quantity: 3, category: "tea" };
  await api.call("POST", "/products", { as: key, json: product });
  // For a key that may be revoked meanwhile: the credentials themselves must last.
  const { body: spare } = await api.call("POST", "/api-keys", { as: token, json: { name: "spare" } });
  const { body: webhook } = await api.call("POST", "/webhooks", {
    as: token,
    json: { url: "https://1.1.1.1/" },
  });
  const { body: order } = await api.call("POST", "/orders", { as: key, json: orderInput() });
  known = {
    credentials: [token, key],
    ids: [body.id, order.id, userId, spare.id, webhook.id, "p-1", "visitor-1"],
  };
});
afterAll(cleanup);

function validatorFor(operation: Operation, status: number, mediaType: string): ValidateFunction | null {
  const schema = operation.responses.get(status)?.[mediaType];
  if (!schema) return null;
  const name = `${operation.id} ${status} ${mediaType}`;
  const found = validators.get(name);
  if (found) return found;
  const formats = {
    uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
    email: true,
    date: /^\d{4}-\d\d-\d\d$/,
    "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/,
  } as const;
  const ajv = new Ajv2020({ strict: false, formats, allErrors: true });
  const validate = ajv.compile({ ...schema, components: { schemas: document.schemas } });
  validators.set(name, validate);
  return validate;
}

/** What the contract requires of every answer. Throws with the whole request and answer. */
async function check({ operation, path, init, what }: GeneratedRequest): Promise<void> {
  const startedAt = performance.now();
  const response = await api.app.request(path, init);
  const text = await readBody(response);
  const took = performance.now() - startedAt;
  const { status } = response;
  statuses.set(status, (statuses.get(status) ?? 0) + 1);
  const story = `${operation.id} (${what})\n${init.method} ${path}\n${String(init.body ?? "").slice(0, 2_000)}\n-> ${status} ${text.slice(0, 2_000)}`;
  if (status >= 500) throw new Error(`a 5xx: ${story}`);
  if (took > SLOW_MS) throw new Error(`${Math.round(took)} ms: ${story}`);
  const promised = operation.responses.get(status);
  if (!promised) throw new Error(`an undocumented status: ${story}`);
  const declared = operation.headers.get(status) ?? [];
  const undeclared = [...response.headers.keys()].filter(
    (name) => !declared.includes(name) && !OF_EVERY_SERVER.test(name),
  );
  if (undeclared.length > 0) throw new Error(`undocumented header fields ${undeclared}: ${story}`);
  const mediaType = response.headers.get("content-type")?.split(";")[0] ?? "";
  if (Object.keys(promised).length === 0) {
    if (text !== "") throw new Error(`a body where none is documented: ${story}`);
    return;
  }
  const validate = validatorFor(operation, status, mediaType);
  if (!validate) throw new Error(`an undocumented media type ${mediaType}: ${story}`);
  for (const value of valuesIn(mediaType, text))
    if (!validate(value)) throw new Error(`another schema, ${JSON.stringify(validate.errors)}: ${story}`);
}

/** What the schema of a media type describes: the document, each line of NDJSON, else the text. */
function valuesIn(mediaType: string, text: string): unknown[] {
  if (/[/+]json/.test(mediaType)) return [JSON.parse(text)];
  if (!mediaType.endsWith("ndjson")) return [text];
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

test(
  `${CASES} generated requests get only answers that are documented`,
  async () => {
    const property = fc.asyncProperty(arbitraryRequest(document, known), check);
    await fc.assert(property, { numRuns: CASES, ...(SEED === undefined ? {} : { seed: SEED }) });
    const total = [...statuses.values()].reduce((sum, n) => sum + n, 0);
    const answered = Object.fromEntries([...statuses].sort(([a], [b]) => a - b));
    console.log(`${total} requests, answers by status: ${JSON.stringify(answered)}`);
    expect(total).toBeGreaterThanOrEqual(CASES);
    // Were all requests refused, nothing would have been tested.
    expect((answered[200] ?? 0) + (answered[201] ?? 0) + (answered[202] ?? 0)).toBeGreaterThan(CASES / 10);
    expect(answered[400] ?? 0).toBeGreaterThan(CASES / 10);
  },
  60_000 + CASES * 100,
);
