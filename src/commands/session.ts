import { InvalidArgumentError } from "commander";
import { type Config, parseConfig } from "../config.ts";
import { AppError } from "../core/errors.ts";
import { isUuid } from "../core/ids.ts";
import { closeDeps, createDeps, type Deps } from "../deps.ts";

/** Redis may be restarting, or this process not connected yet. */
const SETTLE_MS = 5_000;

/**
 * Runs a one-shot command with deps of its own and closes them however it ends. Its log says only
 * warnings. Deletions of cache tags that it owes are waited for: they would be lost with the
 * process.
 */
export async function withDeps<T>(use: (deps: Deps, config: Config) => Promise<T>): Promise<T> {
  const config = parseConfig(undefined, { listens: false });
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

const SLUG = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** The value of --tenant: a slug, or the id that the API shows. */
export function parseTenant(text: string): string {
  const tenant = text.toLowerCase();
  if (isUuid(tenant)) return tenant;
  if (!SLUG.test(text))
    throw new InvalidArgumentError(
      "It must be the tenant's id or slug; a slug is 1-63 of a-z, 0-9 and -, with no - at its ends.",
    );
  return text;
}

/** The id of the tenant with this id or slug. Throws `not_found` with advice. */
export async function requireTenant({ identity }: Deps, idOrSlug: string): Promise<string> {
  const tenantId = await identity.findTenantId(idOrSlug);
  if (tenantId === null && isUuid(idOrSlug))
    throw new AppError("not_found", `There is no tenant with the id ${idOrSlug}: GET /auth/me shows yours.`);
  if (tenantId === null)
    throw new AppError(
      "not_found",
      `There is no tenant "${idOrSlug}": registering with a tenantName makes one, so does \`footfall import --create-tenant\`.`,
    );
  return tenantId;
}
