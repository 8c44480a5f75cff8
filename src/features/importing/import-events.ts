import { extname } from "node:path";
import { AppError, type FieldError } from "../../core/errors.ts";
import {
  type EventWriter,
  type FindPrices,
  frameOfRecords,
  isTrailer,
  isUnpriced,
  type MoneyRules,
  type ParsedEvent,
  type ParseResult,
  parseEvent,
  priceSales,
  type Warning,
} from "../events/index.ts";
import type { ReadTenantSettings } from "../identity/index.ts";
import { type BulkLoader, createBulkLoader, type LoadTotals } from "./bulk-loader.ts";
import { readCsv } from "./csv-rows.ts";
import { createEnvelopeMapper, mapEnvelope } from "./envelope.ts";
import { columnsOf, createRowMapper, type MapRow } from "./map-row.ts";
import type { Mapping } from "./mapping.ts";
import { readNdjson } from "./ndjson-rows.ts";
import { createRowIdentities, type RowIdentities } from "./row-identity.ts";
import type { ReadCell, Row, RowSource } from "./rows.ts";
import { badFile, STDIN } from "./source.ts";
import { createWarningTotals, type WarningTotals } from "./warning-totals.ts";

export type ImportFormat = "csv" | "ndjson";

export interface ImportOptions {
  tenantId: string;
  /** A path, or `-` for standard input. */
  file: string;
  format: ImportFormat;
  /** Without one, the rows must be events in our own envelope. */
  mapping: Mapping | null;
  /** Awaited, so that a slow writer of rejections slows the import instead of piling them up. */
  onRejected(rejections: readonly Rejection[]): Promise<void> | void;
}

export interface Rejection {
  line: number;
  errors: FieldError[];
}

export interface ImportDeps {
  writer: EventWriter;
  findPrices: FindPrices;
  readTenantSettings: ReadTenantSettings;
}

export interface ImportRun {
  /** Counts so far; live while the import runs and right after it failed. */
  readonly totals: LoadTotals;
  readonly warnings: WarningTotals;
  /**
   * Resolves after the last commit. Throws `invalid_input` for a file that can't be read; what came
   * before it is stored.
   */
  run(): Promise<void>;
}

const SAMPLE_EVENTS = 3;
const EXTENSIONS: Readonly<Record<string, ImportFormat>> = {
  ".csv": "csv",
  ".ndjson": "ndjson",
  ".jsonl": "ndjson",
};

/**
 * What a file's name says about its format, with or without `.gz`. Throws `invalid_input` when it
 * says nothing.
 */
export function formatOf(file: string): ImportFormat {
  const format = EXTENSIONS[extname(file.replace(/\.gz$/i, "")).toLowerCase()];
  if (format) return format;
  const subject = file === STDIN ? "Standard input has no name" : `The name of ${file} does not say`;
  throw new AppError("invalid_input", `${subject}, so give --format csv or --format ndjson.`);
}

/**
 * Stores a file's rows as events of a tenant, in bounded memory. Every row goes through the same
 * check as an event that is sent; a bad one is refused alone. Importing a file again stores nothing
 * (row-identity.ts). Call checkWholeFile first.
 */
export function createImport(deps: ImportDeps, options: ImportOptions): ImportRun {
  const { writer, findPrices, readTenantSettings } = deps;
  const { tenantId } = options;
  const loader = createBulkLoader(writer, tenantId);
  const warnings = createWarningTotals();
  const run: Load = {
    loader,
    options,
    price: (results) => priceSales(findPrices, tenantId, results),
    onWarning: warnings.add,
  };
  return {
    totals: loader.totals,
    warnings: warnings.totals,
    async run() {
      const source = await openRows(options);
      const mapRow = chooseMapper(source, options);
      const money = await readTenantSettings(tenantId);
      await load(source, mapRow, money, run);
    },
  };
}

interface Load {
  loader: BulkLoader;
  options: ImportOptions;
  price(results: readonly ParseResult[]): Promise<readonly ParseResult[]>;
  onWarning(warning: Warning): void;
}

export interface Preview {
  /** Rows read; fewer than asked for when the file has no more. */
  rows: number;
  rejections: Rejection[];
  warnings: WarningTotals;
  /**
   * Sales without a price of their own: an import asks the catalogue, and rejects purchases of
   * unknown products.
   */
  unpriced: number;
  /** The first events that would be stored. */
  events: ParsedEvent[];
  /**
   * Columns of the header that no field of an event takes; null where every row names its own
   * (NDJSON).
   */
  unusedColumns: string[] | null;
}

/**
 * What an import would make of a file's first `limit` rows. Stores nothing. Throws as an import
 * does.
 */
export async function previewImport(
  options: Pick<ImportOptions, "file" | "format" | "mapping">,
  limit: number,
): Promise<Preview> {
  const source = await openRows(options);
  const mapRow = chooseMapper(source, options);
  const used = options.mapping ? columnsOf(options.mapping) : source.columns;
  const unusedColumns = source.columns?.filter((column) => !used?.includes(column)) ?? null;
  const warnings = createWarningTotals();
  const preview: Preview = {
    rows: 0,
    rejections: [],
    warnings: warnings.totals,
    unpriced: 0,
    events: [],
    unusedColumns,
  };
  const identities = createRowIdentities();
  for await (const rows of source.rows) {
    for (const row of rows) {
      if (options.mapping === null && isTrailer(row.cells)) continue;
      const result = toEvent(row, mapRow, identities, null);
      preview.rows += 1;
      if ("errors" in result) preview.rejections.push({ line: row.line, errors: result.errors });
      else {
        result.warnings.forEach(warnings.add);
        if (isUnpriced(result)) preview.unpriced += 1;
        if (preview.events.length < SAMPLE_EVENTS) preview.events.push(result.event);
      }
      if (preview.rows === limit) return preview;
    }
  }
  if (preview.rows === 0) throw badFile(options.file, "has no rows");
  return preview;
}

function openRows({
  file,
  format,
  mapping,
}: Pick<ImportOptions, "file" | "format" | "mapping">): Promise<RowSource> | RowSource {
  return format === "csv" ? readCsv(file, mapping?.delimiter) : readNdjson(file);
}

function chooseMapper(
  { columns }: RowSource,
  { file, mapping }: Pick<ImportOptions, "file" | "mapping">,
): MapRow {
  if (!mapping) return columns ? createEnvelopeMapper(columns) : mapEnvelope;
  if (!columns) return createRowMapper(mapping, keyReader);
  const missing = [...new Set(columnsOf(mapping))].filter((column) => !columns.includes(column));
  if (missing.length > 0)
    throw badFile(
      file,
      `lacks the columns ${missing.join(", ")}; its header is ${columns.join(", ")}${whyOneColumn(columns)}`,
    );
  return createRowMapper(mapping, (column) => cellReader(columns.indexOf(column)));
}

function whyOneColumn([only = "", ...others]: readonly string[]): string {
  const between = others.length === 0 ? /[;\t,|]/.exec(only)?.[0] : undefined;
  return between === undefined
    ? ""
    : `: one column, so the mapping needs "delimiter": ${JSON.stringify(between)}`;
}

/** An empty cell is no value. */
function cellReader(index: number): ReadCell {
  return (cells) => (cells as string[])[index] || undefined;
}

/** A key of a JSON object, or a path of keys if the object has no key of that whole name. */
function keyReader(name: string): ReadCell {
  const path = name.split(".");
  const child = (value: unknown, key: string): unknown =>
    typeof value === "object" && value !== null && Object.hasOwn(value, key)
      ? (value as Record<string, unknown>)[key]
      : undefined;
  return (cells) => {
    const value = child(cells, name) ?? path.reduce(child, cells);
    return value === null || value === "" ? undefined : value;
  };
}

async function load(source: RowSource, mapRow: MapRow, money: MoneyRules, run: Load): Promise<void> {
  const { loader, options } = run;
  const identities = createRowIdentities();
  try {
    for await (const rows of source.rows) {
      // In the rows of somebody else's file it would be one of them.
      const events = options.mapping ? rows : rows.filter((row) => !isTrailer(row.cells));
      await loadRows(events, (row) => toEvent(row, mapRow, identities, money), run);
    }
  } catch (error) {
    // Rows before the place where the file became bad are stored. A second failure says nothing
    // new.
    await loader.finish().catch(() => {});
    throw error;
  }
  await loader.finish();
  if (loader.totals.rows === 0) throw badFile(options.file, "has no rows");
}

/** Rows that were read together share one query to the catalogue, if any of them needs it. */
async function loadRows(
  rows: readonly Row[],
  toResult: (row: Row) => ParseResult,
  { loader, options, price, onWarning }: Load,
): Promise<void> {
  const rejections: Rejection[] = [];
  const results = await price(rows.map(toResult));
  for (const [index, result] of results.entries()) {
    const isRefused = "errors" in result;
    if (isRefused) rejections.push({ line: rows[index]?.line ?? 0, errors: result.errors });
    else result.warnings.forEach(onWarning);
    if (loader.add(isRefused ? null : result.event)) await loader.flush();
  }
  if (rejections.length > 0) await options.onRejected(rejections);
}

function toEvent(row: Row, mapRow: MapRow, identities: RowIdentities, money: MoneyRules | null): ParseResult {
  if (row.problem) return { errors: [row.problem] };
  const mapped = mapRow(row.cells);
  if ("errors" in mapped) return mapped;
  const { input } = mapped;
  input.messageId ??= identities.messageIdOf(row.identity);
  return parseEvent(input, frameOfRecords(money));
}
