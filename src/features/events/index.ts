export { checkBulkQuery, checkFrame, NDJSON, parseLines } from "./bulk-body.ts";
export { createEventWriter, type EventWriter } from "./event-writer.ts";
export { isTrailer } from "./export.ts";
export { insertBatches } from "./ledger-repository.ts";
export { SHOP_MESSAGES } from "./message-key.ts";
export { BEFORE_EARLIEST, EARLIEST_MS, type ParsedEvent, parseEvent } from "./parse-event.ts";
export { timeOfEvent } from "./repository.ts";
export { createEventsService, type EventsService } from "./service.ts";
