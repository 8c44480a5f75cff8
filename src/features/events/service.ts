import { decodeCursor, encodeCursor } from "../../core/cursor.ts";
import { AppError, type FieldError } from "../../core/errors.ts";
import { isUuid } from "../../core/ids.ts";
import { isOfTheShop, type Principal, type RequestContext } from "../../core/principal.ts";
import { fieldErrorsOf, firstFinding, invalidInput } from "../../core/validation.ts";
import type { Sql } from "../../db/client.ts";
import { readPages } from "../../db/pages.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import type { ReadTenantSettings } from "../identity/index.ts";
import { MALFORMED_LINE } from "./bulk-body.ts";
import { type FindPrices, isUnpriced, priceSales } from "./catalogue-prices.ts";
import type { EventWriter, WriteOutcome } from "./event-writer.ts";
import { exportText } from "./export.ts";
import { messageSpaceOf } from "./message-key.ts";
import {
  EARLIEST_MS,
  errorsOfSharedContext,
  instantMs,
  type ParsedEvent,
  type ParseFrame,
  type ParseResult,
  parseEvent,
} from "./parse-event.ts";
import { selectEvent, selectEventPage, selectEvents, timeOfEvent } from "./repository.ts";
import {
  type BulkFrame,
  type EventExportQuery,
  type EventListQuery,
  type StoredEvent,
  Timestamp,
} from "./schema.ts";
import type { Warning } from "./warnings.ts";

export interface EventsDeps {
  read: Sql;
  readGuard: Pick<ReadGuard, "run" | "runPatiently">;
  writer: EventWriter;
  readTenantSettings: ReadTenantSettings;
  findPrices: FindPrices;
  /** Of events that are sent; imports may be older. */
  maxAgeDays: number;
}

/** A warning about an event, by its place in the request. */
export type PlacedWarning = Warning & { index: number };

export interface BulkResult {
  received: number;
  inserted: number;
  duplicates: number;
  rejected: number;
  errors: { index: number; path: string; code: string; message: string }[];
  /** Absent when there are none. */
  warnings?: PlacedWarning[];
}

export type EventsService = ReturnType<typeof createEventsService>;

const DAY_MS = 86_400_000;

/** Ingest and reading back of single events. */
export function createEventsService(deps: EventsDeps) {
  const { read, readGuard, writer, readTenantSettings, findPrices, maxAgeDays } = deps;

  async function frameOf(
    ctx: RequestContext,
    request: { sentAt?: string | number; sessionId?: string; context?: Record<string, unknown> },
  ): Promise<ParseFrame> {
    const pending = readTenantSettings(ctx.tenantId);
    const settings = pending instanceof Promise ? await pending : pending;
    const receivedAtMs = Date.now();
    return {
      receivedAtMs,
      skewMs: request.sentAt === undefined ? 0 : receivedAtMs - instantMs(request.sentAt),
      ...ageLimit(receivedAtMs, maxAgeDays, settings.eventRetentionDays),
      maySell: settings.trustedSales || isOfTheShop(ctx.principal),
      messageSpace: messageSpaceOf(ctx.principal),
      money: settings,
      defaults: {
        userId: visitorOf(ctx.principal),
        sessionId: request.sessionId,
        context: request.context,
      },
    };
  }

  return {
    /**
     * Resolves after the commit. Throws `invalid_input`, `too_large`, `sales_not_trusted`,
     * `currency_mismatch`, `unavailable`.
     */
    async createEvent(
      ctx: RequestContext,
      input: unknown,
    ): Promise<WriteOutcome & { warnings?: PlacedWarning[] }> {
      const { sentAt, event } = splitSentAt(input);
      const frame = await frameOf(ctx, { sentAt });
      const checked = parseFor(ctx, event, frame);
      const [parsed = checked] = isUnpriced(checked)
        ? await priceSales(findPrices, ctx.tenantId, [checked])
        : [];
      if ("errors" in parsed) throw rejection(parsed.errors);
      const outcome = await writer.write(ctx.tenantId, parsed.event, frame.receivedAtMs);
      const { warnings } = parsed;
      return warnings.length === 0
        ? outcome
        : { ...outcome, warnings: warnings.map((warning) => ({ index: 0, ...warning })) };
    },

    /**
     * Stores the valid events and reports the others; `strict` stores all or none. Throws when none
     * is valid.
     */
    async createEvents(
      ctx: RequestContext,
      input: BulkFrame,
      { strict }: { strict: boolean },
    ): Promise<BulkResult> {
      const contextErrors = input.context ? errorsOfSharedContext(input.context) : [];
      if (contextErrors.length > 0) throw invalidInput("body", contextErrors);
      const frame = await frameOf(ctx, input);
      const checked = input.events.map((one) => parseFor(ctx, one, frame));
      const { events, errors, warnings } = sortOut(await priceSales(findPrices, ctx.tenantId, checked));
      const received = input.events.length;
      const rejected = received - events.length;
      if (events.length === 0 || (strict && rejected > 0)) {
        const reported = errors
          .slice(0, MAX_REPORTED)
          .map(({ index, path, ...rest }) => ({ path: `events.${index}${path && `.${path}`}`, ...rest }));
        const refusal = strict ? "Not every event is valid, so none was stored" : "No event is valid";
        throw new AppError(
          commonReason(errors) ?? "invalid_input",
          `${refusal}: ${firstFinding(reported)}.`,
          {
            errors: reported,
          },
        );
      }
      const { receivedAtMs } = frame;
      const outcome = await writer.writeBulk({
        tenantId: ctx.tenantId,
        receivedAtMs,
        received,
        rejected,
        events,
      });
      return {
        received,
        ...outcome,
        rejected,
        errors: errors.slice(0, MAX_REPORTED),
        ...(warnings.length === 0 ? {} : { warnings: warnings.slice(0, MAX_REPORTED) }),
      };
    },

    async listEvents(
      ctx: RequestContext,
      query: EventListQuery,
    ): Promise<{ items: StoredEvent[]; nextCursor: string | null }> {
      const { cursor, limit, ...filters } = query;
      const [timestamp = "", id = ""] = cursor ? decodeCursor(filters, cursor, 2) : [];
      if (cursor && !(isUuid(id) && !Number.isNaN(Date.parse(timestamp))))
        throw new AppError("invalid_input", "The cursor is not valid.");
      const before = cursor ? { timestamp, id } : undefined;
      const items = await readGuard.run(
        () => selectEvents(read, ctx.tenantId, { ...filters, before, limit: limit + 1 }),
        ctx,
      );
      const last = items.length > limit ? items[limit - 1] : undefined;
      return {
        items: items.slice(0, limit),
        nextCursor: last ? encodeCursor(filters, [last.timestamp, last.id]) : null,
      };
    },

    /**
     * All events of the filter, the newest first, as text. Each event stored before the export
     * began comes exactly once. Of those stored meanwhile, it holds the ones whose time it has not
     * reached yet.
     */
    exportEvents(ctx: RequestContext, { format, ...filters }: EventExportQuery): AsyncIterable<string> {
      const pages = readPages<StoredEvent>((after, size) => {
        const before = after ? { timestamp: after.timestamp, id: after.id } : undefined;
        const readPage = () => selectEventPage(read, ctx.tenantId, { ...filters, before }, size);
        return after ? readGuard.runPatiently(readPage, ctx) : readGuard.run(readPage, ctx);
      });
      return exportText(format, pages);
    },

    async getEvent(ctx: RequestContext, id: string): Promise<StoredEvent> {
      const ts = timeOfEvent(id);
      const event = ts ? await readGuard.run(() => selectEvent(read, ctx.tenantId, id, ts), ctx) : null;
      if (!event) throw new AppError("not_found", "There is no such event.");
      return event;
    },
  };
}

/** Staff send the events of others: whose they are, they have to say. */
function visitorOf(principal: Principal): string | undefined {
  return principal.kind === "user" && principal.role === "customer" ? principal.userId : undefined;
}

const MAX_REPORTED = 100;

/** The events to store, and what is to be said of the others and of these. */
function sortOut(results: readonly ParseResult[]) {
  const events: ParsedEvent[] = [];
  const errors: BulkResult["errors"] = [];
  const warnings: PlacedWarning[] = [];
  for (const [index, result] of results.entries()) {
    if ("errors" in result) for (const error of result.errors) errors.push({ index, ...error });
    else {
      events.push(result.event);
      for (const warning of result.warnings) warnings.push({ index, ...warning });
    }
  }
  return { events, errors, warnings };
}

/** The strictest of all limits on an event's age, in words for the refused events. */
function ageLimit(
  nowMs: number,
  maxAgeDays: number,
  retentionDays: number | null,
): Pick<ParseFrame, "oldestMs" | "tooOld"> {
  if (retentionDays !== null && retentionDays <= maxAgeDays) {
    const tooOld = `older than the ${retentionDays} days for which this tenant keeps events`;
    return { oldestMs: Math.max(nowMs - retentionDays * DAY_MS, EARLIEST_MS), tooOld };
  }
  const tooOld = `more than ${maxAgeDays} days ago; "footfall import" takes older ones`;
  return { oldestMs: Math.max(nowMs - maxAgeDays * DAY_MS, EARLIEST_MS), tooOld };
}

/** `sentAt` is the request's, not the event's: it only corrects the client's clock. */
function splitSentAt(input: unknown): { sentAt: string | number | undefined; event: unknown } {
  if (typeof input !== "object" || input === null || !("sentAt" in input))
    return { sentAt: undefined, event: input };
  const { sentAt, ...event } = input;
  const checked = Timestamp.safeParse(sentAt);
  if (!checked.success)
    throw rejection(fieldErrorsOf(checked.error).map((error) => ({ ...error, path: "sentAt" })));
  return { sentAt: checked.data, event };
}

/** A customer's token may speak for nobody else. */
function parseFor({ principal }: RequestContext, input: unknown, frame: ParseFrame): ParseResult {
  if (input === MALFORMED_LINE)
    return { errors: [{ path: "", code: "malformed_json", message: "the line is not valid JSON" }] };
  const parsed = parseEvent(input, frame);
  const foreign =
    "event" in parsed &&
    principal.kind === "user" &&
    principal.role === "customer" &&
    parsed.event.userId !== principal.userId;
  if (!foreign) return parsed;
  return {
    errors: [{ path: "userId", code: "not_yourself", message: "a customer can only send events of its own" }],
  };
}

function rejection(errors: FieldError[]): AppError {
  if (errors[0]?.code === "too_large")
    return new AppError("too_large", "The event is larger than 32 KB.", { errors });
  const reason = commonReason(errors);
  const invalid = invalidInput("event", errors);
  return reason ? new AppError(reason, REASONS[reason] ?? invalid.message, { errors }) : invalid;
}

/**
 * The code that a client may want to branch on, where it is the only problem; null: the detail is
 * the first finding.
 */
const REASONS = {
  sales_not_trusted: "Customers and publishable keys may not send sales here.",
  currency_mismatch: null,
};

function commonReason(errors: readonly { code: string }[]): keyof typeof REASONS | undefined {
  const reasons = Object.keys(REASONS) as (keyof typeof REASONS)[];
  return reasons.find((reason) => errors.every(({ code }) => code === reason));
}
