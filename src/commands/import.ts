import { type Command, Option } from "commander";
import type { Config } from "../config.ts";
import { AppError } from "../core/errors.ts";
import type { Deps } from "../deps.ts";
import {
  checkWholeFile,
  createImport,
  formatOf,
  type ImportFormat,
  type ImportRun,
  type Mapping,
  PRESETS,
  parseMapping,
} from "../features/importing/index.ts";
import { showDryRun } from "./import-preview.ts";
import {
  completeRollups,
  createStopwatch,
  describeTotals,
  ensureTenant,
  parseTimeZone,
  withProgress,
} from "./load.ts";
import { createRejectionReport, reportWarnings } from "./rejection-report.ts";
import { parseTenant, requireTenant, withDeps } from "./session.ts";

interface ImportArguments {
  tenant: string;
  createTenant?: boolean;
  tenantName?: string;
  timeZone?: string;
  preset?: string;
  mapping?: string;
  format?: ImportFormat;
  errors?: string;
  dryRun?: boolean;
}

const HELP = `
Without --preset and --mapping the rows must be events as the API takes them: an NDJSON object a line, or CSV columns
named type, timestamp, productId, userId, anonymousId, sessionId, messageId, properties.<key>, context.<key>. A file that
GET /events/export made is such a file; its last line, the count, is passed over.

A mapping is a JSON file. Columns are named by the CSV header, or by the keys of the NDJSON objects (a.b reaches into
them). timestamp and type are required, everything else may be left out:
  {
    "delimiter": ";",
    "decimal": ",",
    "timestamp": { "column": "Date", "format": "D.M.YYYY H:mm" },
    "type": { "constant": "purchase" },
    "productId": "SKU",
    "userId": "Customer",
    "anonymousId": { "column": "Order", "onlyWithoutUser": true },
    "sessionId": "Order",
    "messageId": "Line id",
    "quantity": { "column": "Qty", "negative": "refund" },
    "price": { "column": "Unit price", "negative": "adjustment" },
    "revenue": "Line total",
    "properties": { "country": "Country", "weight": { "column": "Weight", "as": "number" } }
  }
  decimal            the mark in numbers, "." (default) or ","; numbers with marks between thousands are rejected
  timestamp          "Date" alone, or with a format: auto (default: ISO 8601, SQL timestamps, the epoch in s, ms or us),
                     rfc3339, epochMs, epochSeconds, or a pattern of YYYY MM M DD D HH H mm ss SSS; without a zone: UTC
  type               a constant, or { "column": "Kind", "values": { "sale": "purchase" } }
  quantity.negative  "refund" makes a row with a negative quantity a refund; otherwise such a row is rejected
  price.negative     "adjustment" makes a row with a negative price an adjustment, which counts in revenue alone
  revenue            a row's total, which counts where the row has no price; "negative" as of price
  properties.*.as    text, number or boolean; default: as it is in the file

A row without a messageId is known by its values: importing a file again stores nothing, and repeated rows all count.
When more than one row in a hundred is rejected, the others are stored, and the exit code is 2.`;

export function addImportCommand(program: Command): void {
  program
    .command("import")
    .description(
      "load historical events or sales from a CSV or NDJSON file, gzip or not; repeating it is safe",
    )
    .argument("<file>", "the file; - is standard input")
    .requiredOption("--tenant <tenant>", "the tenant to load it into, by id or slug", parseTenant)
    .option("--create-tenant", "make the tenant when it is missing; ADMIN_EMAIL becomes its admin")
    .option("--tenant-name <name>", "name of a tenant that is made")
    .option("--time-zone <name>", "time zone of a tenant that is made", parseTimeZone)
    .addOption(
      new Option("--preset <name>", "a well-known data set")
        .choices(Object.keys(PRESETS))
        .conflicts("mapping"),
    )
    .option("--mapping <file.json>", "what the columns mean; see below")
    .addOption(new Option("--format <format>", "default: by the file's name").choices(["csv", "ndjson"]))
    .option("--errors <file.csv>", "write the rejected rows there: line, path, message")
    .option("--dry-run", "store nothing, ask no database; show what the first 1,000 rows would become")
    .addHelpText("after", HELP)
    .action(importFile);
}

async function importFile(file: string, args: ImportArguments): Promise<void> {
  // Everything wrong with the arguments or the file is reported before a tenant is made.
  if (!args.createTenant && (args.tenantName !== undefined || args.timeZone !== undefined))
    throw new AppError("invalid_input", "--tenant-name and --time-zone are only for --create-tenant.");
  const format = args.format ?? formatOf(file);
  const mapping = await chooseMapping(args);
  if (args.dryRun) return showDryRun(file, format, mapping, args.errors);
  await withProgress(
    () => `${file}: checking that it is whole`,
    () => checkWholeFile(file),
  ).catch((error) => {
    console.error("Nothing was stored.");
    throw error;
  });
  const rejections = await createRejectionReport(args.errors);
  try {
    await withDeps(async (deps, config) => {
      const tenantId = await chooseTenant(deps, config, args);
      const { write: onRejected } = rejections;
      const run = createImport(deps, { tenantId, file, format, mapping, onRejected });
      await runImport(deps, tenantId, run, file, args.tenant);
      rejections.judge(run.totals.rows);
    });
  } finally {
    await rejections.close(args.errors);
  }
}

async function chooseTenant(deps: Deps, config: Config, args: ImportArguments): Promise<string> {
  const { createTenant, tenant: slug, tenantName: name, timeZone } = args;
  if (!createTenant) return requireTenant(deps, slug);
  const isNew = (await deps.identity.findTenantId(slug)) === null;
  const tenantId = await ensureTenant(deps, config, { slug, name, timeZone });
  if (isNew && !config.admin)
    console.error(
      `Nobody can sign in to ${slug} yet: \`footfall admin create --tenant ${slug}\` makes its admin.`,
    );
  return tenantId;
}

async function chooseMapping({ preset, mapping }: ImportArguments): Promise<Mapping | null> {
  if (preset !== undefined) return PRESETS[preset] ?? null;
  if (mapping === undefined) return null;
  const text = await Bun.file(mapping)
    .text()
    .catch((error: NodeJS.ErrnoException) => {
      const reason = error.code === "ENOENT" ? "does not exist" : `can't be read: ${error.message}`;
      throw new AppError("invalid_input", `${mapping} ${reason}.`, { cause: error });
    });
  return parseMapping(text, mapping);
}

/**
 * What was stored before a failure is rolled up and reported, too. Running the command again goes
 * on from there.
 */
async function runImport(
  deps: Deps,
  tenantId: string,
  { totals, warnings, run }: ImportRun,
  file: string,
  slug: string,
): Promise<void> {
  const watch = createStopwatch();
  const describe = () => `${totals.rows} rows read, ${describeTotals(totals)}`;
  try {
    await withProgress(() => `${describe()}, ${watch.rate(totals.rows)}`, run);
  } catch (error) {
    if (error instanceof AppError && totals.stored > 0) await completeRollups(deps, tenantId);
    console.error(
      totals.rows > 0
        ? `Stopped after ${describe()}. Importing it again goes on from there.`
        : "Nothing was stored.",
    );
    throw error;
  }
  await withProgress(
    () => `${describe()}; rolling up`,
    () => completeRollups(deps, tenantId),
  );
  const speed = `in ${watch.seconds()} s (${watch.rate(totals.rows)})`;
  console.log(`${file} into ${slug}: ${describe()}, ${speed}.`);
  reportWarnings(warnings);
}
