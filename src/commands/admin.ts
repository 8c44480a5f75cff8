import type { Command } from "commander";
import { AppError } from "../core/errors.ts";
import { operatorContext } from "../core/principal.ts";
import type { Deps } from "../deps.ts";
import { DEFAULT_TENANT } from "../features/identity/index.ts";
import { parseTenant, requireTenant, withDeps } from "./session.ts";

interface AdminOptions {
  email?: string;
  password?: string;
  tenant: string;
  promote?: boolean;
  setPassword?: boolean;
}

const LETTERS_A_PAGE = 1_000;

export function addAdminCommands(program: Command): void {
  const admin = program.command("admin").description("manage administrators");
  admin
    .command("create")
    .description("make an account the admin of a tenant; the account is made when it is new")
    .option("--email <email>", "default: ADMIN_EMAIL")
    .option("--password <password>", "default: ADMIN_PASSWORD, which keeps it out of the process list")
    .option("--tenant <tenant>", "the tenant, by id or slug", parseTenant, DEFAULT_TENANT)
    .option("--promote", "also when the account exists already and is no admin there")
    .option("--set-password", "give an account that exists this password, and end its sessions")
    .action(async (options: AdminOptions) => {
      await withDeps(async ({ identity }, config) => {
        const email = options.email ?? config.admin?.email;
        const password = options.password ?? config.admin?.password;
        if (!email || !password)
          throw new AppError(
            "invalid_input",
            "Give --email and --password, or set ADMIN_EMAIL and ADMIN_PASSWORD.",
          );
        if (password.length < 8 || password.length > 128)
          throw new AppError("invalid_input", "The password must have 8 to 128 characters.");
        const { created, passwordSet } = await identity.ensureAdmin({
          email,
          password,
          tenant: options.tenant,
          promote: options.promote,
          setPassword: options.setPassword,
        });
        console.log(
          created
            ? `${email} is now an admin of ${options.tenant}.`
            : `${email} existed and is an admin of ${options.tenant}; its password is ${passwordSet ? "now the given one" : "unchanged"}.`,
        );
      });
    });

  admin
    .command("reset-password")
    .description("make a link that sets a new password of an account; it works once, within a day")
    .requiredOption("--email <email>", "the account")
    .action(async ({ email }: { email: string }) => {
      await withDeps(async ({ passwords }, config) => {
        const { url, expiresAt } = await passwords.createResetLinkFor(email);
        if (config.publicUrl === null)
          console.error("PUBLIC_URL is not set: put the address of your Footfall before this path.");
        console.log(`${url}\nIt works once, until ${expiresAt}.`);
      });
    });

  const deadLetters = program
    .command("dead-letters")
    .description("what the workers gave up: event batches and order commands");
  deadLetters
    .command("list")
    .description("show them, with the error of each")
    .requiredOption("--tenant <tenant>", "the tenant, by id or slug", parseTenant)
    .action(async ({ tenant }: { tenant: string }) => {
      await withDeps(async (deps) => {
        const ctx = { tenantId: await requireTenant(deps, tenant) };
        let listed = 0;
        for (let cursor: string | null | undefined; cursor !== null; ) {
          const page = await deps.queue.listDeadLetters(ctx, { limit: LETTERS_A_PAGE, cursor });
          for (const row of page.items)
            console.log(
              `${row.id}  ${row.receivedAt}  ${describeLetter(row)}  ${row.attempts} tries  ${row.error}`,
            );
          listed += page.items.length;
          cursor = page.nextCursor;
        }
        if (listed === 0) console.log("There are none.");
      });
    });
  deadLetters
    .command("retry")
    .description("have a running worker try one again")
    .argument("<id>", "id from the list")
    .requiredOption("--tenant <tenant>", "the tenant, by id or slug", parseTenant)
    .action(async (id: string, { tenant }: { tenant: string }) => {
      await withDeps(async (deps) => {
        await deps.queue.retryDeadLetter(operatorContext(await requireTenant(deps, tenant)), id);
        console.log("A running worker tries it again within seconds.");
      });
    });
}

type DeadLetter = Awaited<ReturnType<Deps["queue"]["listDeadLetters"]>>["items"][number];

function describeLetter(letter: DeadLetter): string {
  return letter.kind === "event_batch"
    ? `${letter.events} events`
    : `${letter.command} of order ${letter.orderId}`;
}
