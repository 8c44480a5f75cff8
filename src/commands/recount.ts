import { type Command, InvalidArgumentError } from "commander";
import { clearingTag } from "../cache/tags.ts";
import { isDay } from "../core/days.ts";
import { AppError } from "../core/errors.ts";
import type { Deps } from "../deps.ts";
import {
  changeTimeZone,
  type DayRange,
  describeKept,
  type Kept,
  rebuildTenant,
  type TenantZone,
  type VerifyReport,
  verifyTenant,
} from "../features/rollups/index.ts";
import { parseTimeZone } from "./load.ts";
import { parseTenant, requireTenant, withDeps } from "./session.ts";

interface RangeOptions extends Partial<DayRange> {
  tenant?: string;
}

export function addRecountCommands(program: Command): void {
  withRange(
    program
      .command("verify")
      .description("recount the rollups from the raw events; exits 1 on any difference"),
  ).action(async (options: RangeOptions) => {
    const clean = await withDeps(async (deps) => {
      let allClean = true;
      for (const { slug, ...tenant } of await chosenTenants(deps, options.tenant)) {
        if (!(await canCount(deps, slug, tenant.timeZone))) {
          allClean = false;
          continue;
        }
        const report = await verifyTenant(deps.db.transactions, tenant, options, (month, soFar) => {
          progress(
            `${slug}: ${month.slice(0, 7)} compared, ${soFar.rowsChecked} rows, ${soFar.differing} differ`,
          );
        });
        if (!printReport(slug, report)) allClean = false;
      }
      return allClean;
    });
    if (!clean) process.exitCode = 1;
  });

  withRange(
    program
      .command("rebuild")
      .description("replace the rollups by a recount of the raw events, as far back as these are kept")
      .option("--time-zone <zone>", "change the time zone of --tenant first", parseTimeZone),
  ).action(async (options: RangeOptions & { timeZone?: string }) => {
    const { timeZone } = options;
    if (timeZone && (!options.tenant || options.from || options.to)) {
      throw new AppError(
        "invalid_input",
        "--time-zone needs --tenant, and recounts all its days: give no range.",
      );
    }
    await withDeps(async (deps) => {
      if (timeZone) await deps.timeZones.require(timeZone);
      for (const { slug, ...chosen } of await chosenTenants(deps, options.tenant)) {
        const tenant = { ...chosen, timeZone: timeZone ?? chosen.timeZone };
        if (timeZone) await changeTimeZone(deps.db.transactions, tenant);
        else if (!(await canCount(deps, slug, tenant.timeZone))) {
          process.exitCode = 1;
          continue;
        }
        const { months, kept } = await rebuildTenant(deps.db.transactions, tenant, options, (month) =>
          progress(`${slug}: ${month.slice(0, 7)} rebuilt`),
        );
        // Cached answers of the old rollups must go, whichever days they cover. They must not be
        // served as stale, either.
        await deps.invalidator.invalidateTags(tenant.tenantId, [clearingTag("analytics")]);
        console.log(`${slug}: rebuilt ${months} month${months === 1 ? "" : "s"}.`);
        printKept(slug, kept);
      }
    });
  });
}

/**
 * A zone of one tenant that Postgres does not know must not keep the others from being recounted.
 */
async function canCount({ timeZones }: Deps, slug: string, timeZone: string): Promise<boolean> {
  const fault = await timeZones.findFault(timeZone);
  if (fault === null) return true;
  console.log(`${slug}: ${fault.message}`);
  if (fault.code !== "unknown_time_zone") return true;
  console.log(
    `${slug}: nothing can be counted; see \`footfall rebuild --tenant ${slug} --time-zone <zone>\`.`,
  );
  return false;
}

function withRange(command: Command): Command {
  return command
    .option("--tenant <tenant>", "one tenant, by id or slug; default: all", parseTenant)
    .option("--from <day>", "first day, YYYY-MM-DD in the tenant's time zone", parseDay)
    .option("--to <day>", "last day", parseDay);
}

function parseDay(text: string): string {
  if (!isDay(text)) throw new InvalidArgumentError("It must be a day, YYYY-MM-DD.");
  return text;
}

async function chosenTenants(
  deps: Deps,
  slug: string | undefined,
): Promise<(TenantZone & { slug: string })[]> {
  const only = slug === undefined ? null : await requireTenant(deps, slug);
  return deps.db.read<(TenantZone & { slug: string })[]>`
    select id as "tenantId", slug, time_zone as "timeZone" from tenants
    where ${only === null ? deps.db.read`true` : deps.db.read`id = ${only}`} order by slug`;
}

/**
 * True when the tenant is clean. Waiting batches are no difference: they are counted on neither
 * side.
 */
function printReport(slug: string, report: VerifyReport): boolean {
  for (const { table, key, expected, actual } of report.differences) {
    const name = Object.entries(key).map(([column, value]) => `${column}=${value}`);
    console.log(`${slug}: ${table} ${name.join(" ")}`);
    console.log(`  raw events say ${describe(expected, actual)}`);
    console.log(`  the table says ${describe(actual, expected)}`);
  }
  if (report.waiting > 0)
    console.log(`${slug}: ${report.waiting} batches wait to be rolled up and were counted on neither side.`);
  if (report.dead > 0)
    console.log(
      `${slug}: ${report.dead} batches are dead letters; see \`footfall dead-letters list --tenant ${slug}\`.`,
    );
  if (report.filling.length > 0)
    console.log(
      `${slug}: ${report.filling.join(", ")}: being filled from earlier events; compared with those that are counted by now.`,
    );
  printKept(slug, report.kept);
  const clean = report.differing === 0 && report.dead === 0;
  console.log(
    clean
      ? `${slug}: clean, ${report.rowsChecked} rows compared.`
      : `${slug}: ${report.differing} of ${report.rowsChecked} rows differ.`,
  );
  return clean;
}

function printKept(slug: string, kept: Kept | null): void {
  if (kept !== null) console.log(`${slug}: ${describeKept(kept)}.`);
}

/** The measures in which the sides differ; all of them when the other side has no row. */
function describe(side: Record<string, string> | null, other: Record<string, string> | null): string {
  if (side === null) return "nothing (no row)";
  const shown = Object.entries(side).filter(([measure, value]) => other?.[measure] !== value);
  return shown.map(([measure, value]) => `${measure}=${value}`).join(" ");
}

/** Progress goes to standard error, so that standard output stays a report. */
function progress(line: string): void {
  console.error(line);
}
