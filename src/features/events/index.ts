export { checkBulkQuery, checkFrame, NDJSON, parseLines } from "./bulk-body.ts";
export { type FindPrices, isUnpriced, priceSales } from "./catalogue-prices.ts";
export type { MoneyRules } from "./currency.ts";
export { createEventWriter, type EventWriter } from "./event-writer.ts";
export { isTrailer } from "./export.ts";
export { insertBatches } from "./ledger-repository.ts";
export {
  EARLIEST_MS,
  frameOfRecords,
  type ParsedEvent,
  type ParseResult,
  parseEvent,
} from "./parse-event.ts";
export { timeOfEvent } from "./repository.ts";
export { createEventsService, type EventsService } from "./service.ts";
export type { Warning } from "./warnings.ts";
