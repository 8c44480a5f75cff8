import { type Command, InvalidArgumentError } from "commander";
import type { Config } from "../config.ts";
import { explainInstant } from "../core/explain-instant.ts";
import type { Deps } from "../deps.ts";
import { createSeedRun, hasEvents, type SeedOptions } from "../features/seeding/index.ts";
import {
  completeRollups,
  createStopwatch,
  describeTotals,
  ensureTenant,
  parseTimeZone,
  withProgress,
} from "./load.ts";
import { parseTenant, withDeps } from "./session.ts";

interface SeedArguments {
  tenant: string;
  tenants?: number;
  seed: number;
  users: number;
  products: number;
  events: number;
  days: number;
  timeZone?: string;
  until?: number;
  once?: boolean;
}

export function addSeedCommand(program: Command): void {
  program
    .command("seed")
    .description("fill a tenant, made when it is missing, with made-up but realistic shop traffic")
    .option(
      "--tenant <tenant>",
      "the tenant, by id or slug; ADMIN_EMAIL becomes its admin",
      parseTenant,
      "demo",
    )
    .option("--tenants <n>", "make so many tenants: <slug>-1 to <slug>-n", integer(1, 10_000))
    .option("--events <n>", "events a tenant", integer(1, 1e9), 20_000)
    .option("--users <n>", "signed-in users who come back", integer(1, 10_000_000), 500)
    .option("--products <n>", "products", integer(1, 1_000_000), 100)
    .option("--days <n>", "days before the end over which the events are spread", integer(1, 9_000), 30)
    .option("--until <time>", "the end, RFC 3339; default: now", parseUntil)
    .option("--time-zone <name>", "time zone of a tenant that is made", parseTimeZone)
    .option(
      "--seed <n>",
      "equal seeds and ends give equal events, which are stored once",
      integer(0, 2 ** 52),
      1,
    )
    .option("--once", "leave a tenant alone that has events already")
    .action(async (args: SeedArguments) => {
      await withDeps(async (deps, config) => {
        const untilMs = args.until ?? Date.now();
        for (let number = 1; number <= (args.tenants ?? 1); number += 1) {
          const slug = args.tenants === undefined ? args.tenant : `${args.tenant}-${number}`;
          // Every tenant has a shop of its own.
          await seedTenant(deps, config, slug, { ...args, seed: args.seed + number - 1 }, untilMs);
        }
      });
    });
}

async function seedTenant(
  deps: Deps,
  config: Config,
  slug: string,
  args: SeedArguments,
  untilMs: number,
): Promise<void> {
  const tenantId = await ensureTenant(deps, config, { slug, timeZone: args.timeZone });
  if (args.once && (await hasEvents(deps.db.read, tenantId))) {
    console.log(`${slug} has events already, so nothing was added.`);
    return;
  }
  const { seed, users, products, events, days } = args;
  const { timeZone } = await deps.readTenantSettings(tenantId);
  const options: SeedOptions = { seed, users, products, events, days, untilMs, timeZone };
  const watch = createStopwatch();
  const { totals, run } = createSeedRun(deps, tenantId, options);
  const describe = () => `${slug}: ${totals.rows} of ${events} events`;
  await withProgress(() => `${describe()}, ${watch.rate(totals.rows)}`, run);
  await withProgress(
    () => `${describe()}; rolling up`,
    () => completeRollups(deps, tenantId),
  );
  console.log(
    `${slug}: ${totals.rows} events made, ${describeTotals(totals)}, in ${watch.seconds()} s (${watch.rate(totals.rows)}).`,
  );
}

function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    return value;
  };
}

function parseUntil(text: string): number {
  const timeMs = Date.parse(text);
  if (!/^\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)$/.test(text) || Number.isNaN(timeMs))
    throw new InvalidArgumentError(`It ${explainInstant(text)}.`);
  if (timeMs > Date.now()) throw new InvalidArgumentError("It must not be in the future.");
  return timeMs;
}
