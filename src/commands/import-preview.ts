import {
  createRejectionFile,
  type ImportFormat,
  type Mapping,
  type Preview,
  previewImport,
  type Rejection,
} from "../features/importing/index.ts";
import { createReasonCounts, judgeRejections, reportWarnings } from "./rejection-report.ts";

const ROWS = 1_000;

/**
 * What `import --dry-run` prints: how the columns are taken, what is rejected, and some events.
 * Stores nothing. Lists the rejected rows in the file `errors`, if one is named.
 */
export async function showDryRun(
  file: string,
  format: ImportFormat,
  mapping: Mapping | null,
  errors: string | undefined,
): Promise<void> {
  const preview = await previewImport({ file, format, mapping }, ROWS);
  if (errors !== undefined) await listRejections(errors, preview.rejections);
  const reasons = createReasonCounts();
  reasons.add(preview.rejections);
  const good = preview.rows - reasons.rows();
  console.log(
    `${file}, the first ${preview.rows} rows: ${good} would be stored, ${reasons.rows()} rejected.`,
  );
  console.log("Nothing was stored.\n\nWhat the columns mean:");
  for (const line of describeMapping(mapping)) console.log(`  ${line}`);
  if (preview.unusedColumns?.length) console.log(`  not used: ${preview.unusedColumns.join(", ")}`);
  if (preview.events.length > 0) console.log("\nThe first events:");
  for (const event of preview.events) console.log(`  ${JSON.stringify(presentEvent(event))}`);
  reportWarnings(preview.warnings);
  if (preview.unpriced > 0)
    console.log(
      `Sales without a price: ${preview.unpriced}. An import takes the catalogue's and rejects purchases of unknown products.`,
    );
  judgeRejections(reasons, preview.rows);
}

async function listRejections(path: string, rejections: readonly Rejection[]): Promise<void> {
  const list = await createRejectionFile(path);
  try {
    await list.write(rejections);
  } finally {
    await list.close();
  }
}

function describeMapping(mapping: Mapping | null): string[] {
  if (mapping === null) return ["each is the field of an event that it is named after"];
  const { timestamp, type, properties, delimiter: _, decimal: __, ...fields } = mapping;
  const lines = [`timestamp: "${timestamp.column}" (${timestamp.format}; a time without a zone is UTC)`];
  lines.push(type.constant ? `type: always ${type.constant}` : `type: "${type.column}"`);
  for (const [name, field] of Object.entries(fields)) if (field) lines.push(`${name}: "${field.column}"`);
  for (const [name, field] of Object.entries(properties)) lines.push(`properties.${name}: "${field.column}"`);
  return lines;
}

/** As GET /events would answer it, without what is not known before it is stored. */
function presentEvent(event: Preview["events"][number]) {
  const { type, tsMs, productId, userId, anonymousId, sessionId, messageId, properties, context } = event;
  const given = { productId, userId, anonymousId, sessionId, messageId };
  return {
    type,
    timestamp: new Date(tsMs).toISOString(),
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null)),
    ...(properties === null ? {} : { properties: JSON.parse(properties) }),
    ...(context === null ? {} : { context: JSON.parse(context) }),
  };
}
