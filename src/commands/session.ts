import { type Config, parseConfig } from "../config.ts";
import { AppError } from "../core/errors.ts";
import { closeDeps, createDeps, type Deps } from "../deps.ts";

/** Runs a one-shot command with deps of its own and closes them whichever way it ends. Its log says only warnings. */
export async function withDeps<T>(use: (deps: Deps, config: Config) => Promise<T>): Promise<T> {
  const config = parseConfig();
  const deps = createDeps(
    { ...config, logLevel: config.logLevel === "info" ? "warn" : config.logLevel },
    "cli",
  );
  try {
    return await use(deps, config);
  } finally {
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
