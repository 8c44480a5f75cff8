import { InvalidArgumentError } from "commander";
import type { Config } from "../config.ts";
import { isTimeZone, TIME_ZONE_NAMES } from "../core/days.ts";
import { AppError } from "../core/errors.ts";
import { isUuid } from "../core/ids.ts";
import type { Deps } from "../deps.ts";
import { type LoadTotals, rollUpWaiting } from "../features/importing/index.ts";
import { explainFailure } from "./failure.ts";
import { requireTenant } from "./session.ts";

/**
 * What `import` and `seed` have in common: a tenant to fill, progress while it fills, and complete
 * rollups after it.
 */

const PROGRESS_EVERY_MS = 1_000;

export interface NewTenant {
  slug: string;
  name?: string;
  timeZone?: string;
}

/**
 * The id of the tenant, made under its slug when it is missing; the ADMIN_EMAIL account becomes its
 * admin. Throws `conflict` when it exists with another time zone, since its rollups are kept by the
 * days of that zone.
 */
export async function ensureTenant(deps: Deps, config: Config, tenant: NewTenant): Promise<string> {
  const { slug, name = slug, timeZone } = tenant;
  // The server chooses ids, so a tenant can't be made with a given one.
  const tenantId = isUuid(slug)
    ? await requireTenant(deps, slug)
    : await deps.identity.ensureTenant(slug, name, timeZone);
  const settings = await deps.readTenantSettings(tenantId);
  if (timeZone !== undefined && settings.timeZone !== timeZone)
    throw new AppError("conflict", `The tenant "${slug}" exists and its time zone is ${settings.timeZone}.`);
  if (config.admin) await deps.identity.ensureAdmin({ ...config.admin, tenant: slug, promote: true });
  return tenantId;
}

/**
 * Shows on standard error, once a second, what `describe` says. On a terminal it rewrites one line.
 */
export async function withProgress<T>(describe: () => string, work: () => Promise<T>): Promise<T> {
  const { stderr } = process;
  let shown = false;
  const timer = setInterval(() => {
    shown = true;
    stderr.write(stderr.isTTY ? `\r\u001b[K${describe()}` : `${describe()}\n`);
  }, PROGRESS_EVERY_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    if (shown && stderr.isTTY) stderr.write("\r\u001b[K");
  }
}

export function createStopwatch() {
  const startedMs = performance.now();
  const seconds = () => (performance.now() - startedMs) / 1000;
  return {
    seconds: () => seconds().toFixed(1),
    rate: (count: number) => `${Math.round(count / Math.max(seconds(), 0.001))}/s`,
  };
}

/**
 * Rolls up what waits, and reports what could not be rolled up. The rest only makes answers fast,
 * so a complete load does not fail by it.
 */
export async function completeRollups(deps: Deps, tenantId: string): Promise<void> {
  const { rollups, rollupRetries, invalidator, returnsFolder } = deps;
  const left = await rollUpWaiting(rollups, rollupRetries, invalidator, tenantId);
  if (left > 0)
    console.error(`${left} batches could not be rolled up; a running worker tries them again by itself.`);
  await orElseSay(
    () => returnsFolder.foldTenant(tenantId),
    "Questions about unique users are slower until a running worker has taken the new days in",
  );
  await orElseSay(
    () => rollups.refreshStatistics(),
    "Answers may be slower for some minutes, until Postgres has analyzed the rollups by itself",
  );
}

async function orElseSay(work: () => Promise<void>, consequence: string): Promise<void> {
  await work().catch((error: unknown) => console.error(`${consequence}: ${explainFailure(error)}`));
}

export function describeTotals({ stored, duplicates, rejected }: LoadTotals): string {
  return `${stored} stored, ${duplicates} duplicates, ${rejected} rejected`;
}

export function parseTimeZone(text: string): string {
  if (!isTimeZone(text)) throw new InvalidArgumentError(`It ${TIME_ZONE_NAMES}.`);
  return text;
}
