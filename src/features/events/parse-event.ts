import type { FieldError } from "../../core/errors.ts";
import { idAt } from "../../core/ids.ts";
import { fieldErrorsOf, isStorable } from "../../core/validation.ts";
import type { MoneyRules } from "./currency.ts";
import { type MessageSpace, messageKeyOf, SHOP_MESSAGES } from "./message-key.ts";
import { NO_SALE, parseSale, SALE_TYPES } from "./sale.ts";
import { EventInput } from "./schema.ts";
import { type Warning, type WarningCode, warnOfNames } from "./warnings.ts";

/** An event as it is stored. Times in ms, price as exact decimal text, JSON as text. */
export interface ParsedEvent {
  id: string;
  tsMs: number;
  type: string;
  productId: string | null;
  userId: string | null;
  anonymousId: string | null;
  sessionId: string | null;
  messageId: string | null;
  /** The key under which the messageId is stored, where it differs from it: see message-key.ts. */
  messageKey: string | null;
  quantity: number | null;
  unitPrice: string | null;
  /** Of the whole line, where it is not quantity times unitPrice. */
  amount: string | null;
  properties: string | null;
  context: string | null;
}

/** What a request says about all of its events. */
export interface ParseFrame {
  receivedAtMs: number;
  /** `receivedAt - sentAt`: how far the client's clock is behind ours. */
  skewMs: number;
  /** Older events are rejected, and told why. */
  oldestMs: number;
  tooOld: string;
  /**
   * Whether the sender may send sales: the shop itself, or anybody where the tenant trusts them
   * with it.
   */
  maySell: boolean;
  /** Whose messageIds are told apart from the shop's own. */
  messageSpace: MessageSpace;
  /** Null where no tenant is known (a dry run): every amount counts as one in its currency. */
  money: MoneyRules | null;
  defaults: { userId?: string; sessionId?: string; context?: Record<string, unknown> };
}

/** For what the shop loads from its own records: no sender's clock, and as old as a shop can be. */
export function frameOfRecords(money: MoneyRules | null): ParseFrame {
  return {
    receivedAtMs: Date.now(),
    skewMs: 0,
    oldestMs: EARLIEST_MS,
    tooOld: BEFORE_EARLIEST,
    maySell: true,
    messageSpace: SHOP_MESSAGES,
    money,
    defaults: {},
  };
}

/** `unpriced`: the properties of a sale that waits for its price, see catalogue-prices.ts. */
export interface Accepted {
  event: ParsedEvent;
  warnings: readonly Warning[];
  unpriced?: Record<string, unknown>;
}

export type ParseResult = Accepted | { errors: FieldError[] };

const MAX_EVENT_BYTES = 32 * 1024;
const MAX_PROPERTY_KEYS = 64;
const MAX_DEPTH = 16;
const MAX_AHEAD_MS = 3_600_000;
/** No shop has older events. */
export const EARLIEST_MS = Date.UTC(2000, 0, 1);
const BEFORE_EARLIEST = "the earliest time that an event can have";

/** Checks one event and gives it an id; never throws. Limits: contract section 4. */
export function parseEvent(input: unknown, frame: ParseFrame): ParseResult {
  const checked = EventInput.safeParse(input);
  if (!checked.success) return { errors: fieldErrorsOf(checked.error) };
  const given = checked.data;
  const errors: FieldError[] = [];
  const warnings: Warning[] = [];
  const reject = (path: string, code: string, message: string) => errors.push({ path, code, message });
  const warn = (path: string, code: WarningCode) => warnings.push({ path, code });

  const tsMs = given.timestamp === undefined ? frame.receivedAtMs : instantMs(given.timestamp) + frame.skewMs;
  if (tsMs > frame.receivedAtMs + MAX_AHEAD_MS)
    reject("timestamp", "in_future", "is more than an hour ahead of the server's clock");
  else if (!(tsMs >= frame.oldestMs))
    reject("timestamp", "too_old", `is before ${new Date(frame.oldestMs).toISOString()}, ${frame.tooOld}`);

  const { properties, context } = given;
  if (properties) errors.push(...errorsOfObject("properties", properties));
  if (context) errors.push(...errorsOfObject("context", context));
  const isSale = SALE_TYPES.has(given.type);
  if (isSale && !frame.maySell) reject("type", "sales_not_trusted", "only the shop itself may send sales");
  // Of a refused time, nobody knows the day's rate.
  const { counts, added } =
    isSale && frame.maySell
      ? parseSale(given, errors.length > 0 ? frame.receivedAtMs : tsMs, frame.money, { reject, warn })
      : NO_SALE;

  const userId = given.userId ?? frame.defaults.userId ?? null;
  const sessionId = given.sessionId ?? frame.defaults.sessionId ?? null;
  const anonymousId = given.anonymousId ?? null;
  if (userId === null && anonymousId === null && sessionId === null) {
    reject("userId", "required", "is required, or else anonymousId or sessionId");
  }
  if (errors.length > 0) return { errors };

  const merged = frame.defaults.context ? { ...frame.defaults.context, ...context } : context;
  const event: ParsedEvent = {
    id: idAt(tsMs),
    tsMs,
    type: given.type,
    productId: given.productId ?? null,
    userId,
    anonymousId,
    sessionId,
    messageId: given.messageId ?? null,
    messageKey: given.messageId === undefined ? null : messageKeyOf(given.messageId, frame.messageSpace),
    ...counts,
    properties:
      properties === undefined ? null : JSON.stringify(added ? { ...properties, ...added } : properties),
    context: merged === undefined ? null : JSON.stringify(merged),
  };
  if (isTooLarge(event))
    return { errors: [{ path: "", code: "too_large", message: `is larger than ${MAX_EVENT_BYTES} bytes` }] };
  warnOfNames(given, isSale, warn);
  const isUnpriced = isSale && counts.unitPrice === null && counts.amount === null;
  return isUnpriced ? { event, warnings, unpriced: properties ?? {} } : { event, warnings };
}

/** What forbids a free-form object to be stored, its size aside. */
function errorsOfObject(path: string, value: Record<string, unknown>): FieldError[] {
  const errors: FieldError[] = [];
  if (Object.keys(value).length > MAX_PROPERTY_KEYS)
    errors.push({ path, code: "too_many_keys", message: `has more than ${MAX_PROPERTY_KEYS} keys` });
  const problem = problemInside(value, 1);
  if (problem) errors.push({ path, code: "not_storable", message: problem });
  return errors;
}

/**
 * The same for a request's own context, with its size: it is added to each of the request's events.
 */
export function errorsOfSharedContext(context: Record<string, unknown>): FieldError[] {
  const errors = errorsOfObject("context", context);
  if (errors.length === 0 && isTooLarge({ properties: null, context: JSON.stringify(context) }))
    errors.push({ path: "context", code: "too_large", message: `is larger than ${MAX_EVENT_BYTES} bytes` });
  return errors;
}

export function instantMs(timestamp: string | number): number {
  return typeof timestamp === "number" ? timestamp : Date.parse(timestamp);
}

/** Why a JSON value can't be stored as it is, or null. Recursion is bounded by MAX_DEPTH. */
function problemInside(value: unknown, depth: number): string | null {
  if (typeof value === "string") return isStorable(value) ? null : "holds a character that can't be stored";
  if (typeof value === "number") return Number.isFinite(value) ? null : "holds a number that is too large";
  if (typeof value !== "object" || value === null) return null;
  if (depth > MAX_DEPTH) return `is nested deeper than ${MAX_DEPTH} levels`;
  for (const key in value) {
    if (!isStorable(key)) return "holds a key that can't be stored";
    const problem = problemInside((value as Record<string, unknown>)[key], depth + 1);
    if (problem) return problem;
  }
  return null;
}

/** The free-form parts decide. The schema bounds every other field to a few hundred bytes. */
function isTooLarge({ properties, context }: Pick<ParsedEvent, "properties" | "context">): boolean {
  const characters = (properties?.length ?? 0) + (context?.length ?? 0);
  if (characters * 3 <= MAX_EVENT_BYTES) return false;
  return Buffer.byteLength(properties ?? "") + Buffer.byteLength(context ?? "") > MAX_EVENT_BYTES;
}
