import { createRejectionFile, type Rejection, type WarningTotals } from "../features/importing/index.ts";

const MAX_ROWS_SHOWN = 10;
const MAX_REASONS_SHOWN = 5;
/** Every file has bad rows. Beyond this share the mapping is probably wrong. */
const TOLERATED_SHARE = 0.01;
const EXIT_CODE = 2;

/**
 * Reports the rows that an import rejects: the first ones on standard error, all of them in the
 * file asked for, and at the end the most frequent reasons.
 */
export async function createRejectionReport(path: string | undefined) {
  const file = path === undefined ? null : await createRejectionFile(path);
  const reasons = createReasonCounts();
  return {
    async write(rejections: readonly Rejection[]): Promise<void> {
      const room = Math.max(0, MAX_ROWS_SHOWN - reasons.rows());
      for (const { line, errors } of rejections.slice(0, room))
        console.error(`line ${line} rejected: ${errors.map(reasonOf).join("; ")}`);
      reasons.add(rejections);
      await file?.write(rejections);
    },
    /** Sets the exit code to 2, and says why, when too many of `rows` were rejected. */
    judge(rows: number): void {
      judgeRejections(reasons, rows);
    },
    async close(shownPath: string | undefined): Promise<void> {
      await file?.close();
      const hidden = reasons.rows() - MAX_ROWS_SHOWN;
      if (hidden > 0)
        console.error(
          `${hidden} more rows rejected; ${file ? `see ${shownPath}` : "--errors <file.csv> lists them"}.`,
        );
    },
  };
}

export type ReasonCounts = ReturnType<typeof createReasonCounts>;

/**
 * How many rows were rejected, and how often for which reason. Messages tell values, which differ
 * from row to row, so a reason is known by its field and code, and shown by its first message.
 */
export function createReasonCounts() {
  const counts = new Map<string, { rows: number; first: string; varies: boolean }>();
  let rows = 0;
  const count = (kind: string, message: string) => {
    const known = counts.get(kind);
    if (!known) return counts.set(kind, { rows: 1, first: message, varies: false });
    known.rows += 1;
    known.varies ||= known.first !== message;
  };
  return {
    add(rejections: readonly Rejection[]): void {
      rows += rejections.length;
      for (const { errors } of rejections)
        for (const [kind, error] of new Map(errors.map((one) => [`${one.code} ${one.path}`, one])))
          count(kind, reasonOf(error));
    },
    rows: () => rows,
    /** The most frequent first. */
    list: () => [...counts.values()].sort((a, b) => b.rows - a.rows).slice(0, MAX_REASONS_SHOWN),
  };
}

export function judgeRejections(reasons: ReasonCounts, rows: number): void {
  const rejected = reasons.rows();
  if (rejected <= rows * TOLERATED_SHARE) return;
  const share = ((100 * rejected) / rows).toFixed(1);
  console.error(`${rejected} of ${rows} rows (${share}%) were rejected. The most frequent reasons:`);
  for (const { rows: count, first, varies } of reasons.list())
    console.error(`  ${count} rows: ${varies ? "such as " : ""}${first}`);
  console.error("Check what the columns mean: --dry-run shows it, --mapping says it.");
  process.exitCode = EXIT_CODE;
}

function reasonOf({ path, message }: Rejection["errors"][number]): string {
  return path ? `${path} ${message}` : message;
}

/** What was stored but counts for nothing, by code. */
export function reportWarnings(warnings: WarningTotals): void {
  if (warnings.size === 0) return;
  const parts = [...warnings].map(([code, { count, paths }]) => {
    return `${count} ${code} (${[...paths].sort().join(", ")})`;
  });
  console.log(`Warnings: ${parts.sort().join("; ")}. docs/money.md says what they mean.`);
}
