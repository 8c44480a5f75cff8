export { checkFrame, NDJSON, parseLines } from "./bulk-body.ts";
export { createEventWriter, type EventWriter } from "./event-writer.ts";
export { type ParsedEvent, parseEvent } from "./parse-event.ts";
export { createEventsService, type EventsService } from "./service.ts";
