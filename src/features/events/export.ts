import { csvLine } from "../../core/csv.ts";
import type { ExportFormat, StoredEvent } from "./schema.ts";

/**
 * An export reads page after page by keyset, only as fast as it is taken (http/download.ts). Its
 * last line says how many events it holds. Without that line it is not complete.
 */
interface Dialect {
  header: string;
  line(event: StoredEvent): string;
  trailer(count: number): string;
}

const COLUMNS = [
  "id",
  "messageId",
  "type",
  "productId",
  "userId",
  "anonymousId",
  "sessionId",
  "timestamp",
  "receivedAt",
  "properties",
  "context",
  "voidedAt",
] as const;

const DIALECTS: Record<ExportFormat, Dialect> = {
  ndjson: {
    header: "",
    line: (event) => `${JSON.stringify(event)}\n`,
    trailer: (count) => `${JSON.stringify({ count })}\n`,
  },
  csv: {
    header: csvLine(COLUMNS),
    line: (event) => {
      const values = COLUMNS.map((column) => {
        const value = event[column];
        return typeof value === "object" && value !== null ? JSON.stringify(value) : value;
      });
      return csvLine(values);
    },
    trailer: (count) => `# count=${count}\r\n`,
  },
};

/**
 * Whether a line that was read back is an export's last one: the value of an NDJSON line, or the
 * cells of a CSV row.
 */
export function isTrailer(line: unknown): boolean {
  if (Array.isArray(line)) return line.length === 1 && /^# count=\d+$/.test(String(line[0]));
  if (typeof line !== "object" || line === null) return false;
  const [[key, value] = [], ...others] = Object.entries(line);
  return key === "count" && Number.isInteger(value) && others.length === 0;
}

/** `pages` end with an empty one. */
export async function* exportText(
  format: ExportFormat,
  pages: AsyncIterable<StoredEvent[]>,
): AsyncGenerator<string, void, undefined> {
  const { header, line, trailer } = DIALECTS[format];
  let count = 0;
  let before = header;
  for await (const page of pages) {
    count += page.length;
    const text = before + page.map(line).join("");
    before = "";
    yield page.length > 0 ? text : text + trailer(count);
  }
}
