import { type Config, parseConfig } from "../config.ts";
import { AppError } from "../core/errors.ts";
import { closeDeps, createDeps, type Deps } from "../deps.ts";

/** Redis may be restarting, or this process not connected yet. */
const SETTLE_MS = 5_000;

/**
 * Runs a one-shot command with deps of its own and closes them whichever way it ends. Its log says only warnings. What it
 * owes the cache dies with it, so that is waited for.
 */
export async function withDeps<T>(use: (deps: Deps, config: Config) => Promise<T>): Promise<T> {
  const config = parseConfig();
  const deps = createDeps(
    { ...config, logLevel: config.logLevel === "info" ? "warn" : config.logLevel },
    "cli",
  );
  try {
    return await use(deps, config);
  } finally {
    if (!(await deps.invalidator.settle(SETTLE_MS)))
      console.error(
        "Redis does not answer: analytics that it holds from before this command may be served for up to an hour.",
      );
    await closeDeps(deps, config.shutdownGraceMs);
  }
}

/** The id of the tenant with this slug. Throws `not_found` with what to do about it. */
export async function requireTenant({ identity }: Deps, slug: string): Promise<string> {
  const tenantId = await identity.findTenantId(slug);
  if (tenantId === null)
    throw new AppError(
      "not_found",
      `There is no tenant "${slug}": registering with a tenantName makes one, so does \`footfall import --create-tenant\`.`,
    );
  return tenantId;
}
