import type { EventInput, WARNING_CODES } from "./schema.ts";

/**
 * What an accepted event says in vain: names that a sender expects to count, in a place where
 * nothing reads them. Names that we read nowhere are the shop's own business.
 */
export type WarningCode = (typeof WARNING_CODES)[number];

export interface Warning {
  path: string;
  code: WarningCode;
}

export type Warn = (path: string, code: WarningCode) => void;

/**
 * A field of the event itself; a list of lines; the money of a line under another name than ours.
 */
type Meaning = { field: keyof EventInput } | "lines" | "revenue" | "money";

const IN_PROPERTIES: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ["productId", { field: "productId" }],
  ["product_id", { field: "productId" }],
  ["userId", { field: "userId" }],
  ["user_id", { field: "userId" }],
  ["anonymousId", { field: "anonymousId" }],
  ["anonymous_id", { field: "anonymousId" }],
  ["sessionId", { field: "sessionId" }],
  ["session_id", { field: "sessionId" }],
  ["messageId", { field: "messageId" }],
  ["message_id", { field: "messageId" }],
  ["timestamp", { field: "timestamp" }],
  ["items", "lines"],
  ["products", "lines"],
  ["revenue", "revenue"],
  ["total", "money"],
  ["value", "money"],
  ["amount", "money"],
  ["unitPrice", "money"],
  ["unit_price", "money"],
  ["qty", "money"],
]);

/** Read in the properties of a sale only. */
const SALE_PROPERTIES: ReadonlySet<string> = new Set(["quantity", "price", "revenue", "currency"]);

export function warnOfNames(given: EventInput, isSale: boolean, warn: Warn): void {
  const { properties, context } = given;
  for (const name in properties) {
    const meaning = IN_PROPERTIES.get(name);
    if (meaning === undefined) continue;
    if (typeof meaning === "object") {
      if (given[meaning.field] === undefined) warn(`properties.${name}`, "misplaced");
    } else if (isReadNowhere(meaning, properties[name], isSale)) warn(`properties.${name}`, "ignored");
  }
  if (!isSale) return;
  for (const name in context) if (SALE_PROPERTIES.has(name)) warn(`context.${name}`, "misplaced");
}

function isReadNowhere(meaning: "lines" | "revenue" | "money", value: unknown, isSale: boolean): boolean {
  if (meaning === "lines") return Array.isArray(value);
  return meaning === "revenue" ? !isSale : isSale;
}
