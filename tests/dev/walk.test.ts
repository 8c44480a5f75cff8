/**
 * A newcomer's walk: every block of README.md runs in a fresh clone as it stands, and prints what
 * README says. Blocks that need values of the reader are listed with the reason.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import postgres from "postgres";
import { findPostgres } from "../../scripts/postgres/programs.ts";
import { signalProcess, trackProcess } from "../../scripts/processes.ts";
import { findRedis } from "../../scripts/redis.ts";
import { cleanup, eventually, freePort, onCleanup, temporaryDirectory } from "../harness.ts";
import { writeScript } from "./checkout.ts";
import { mismatch, readBlocks, readExpectations, toScript } from "./readme.ts";

const ROOT = join(import.meta.dir, "../..");
const README_PORT = 3000;
const STREAM_SECONDS = 2;
const PATIENCE_MS = 9_000;

const blocks = readBlocks();
const [first, ...rest] = blocks.filter(({ leftOut }) => leftOut === null);
let clone: string;
let environment: Record<string, string>;
let port: number;

beforeAll(async () => {
  for (const { line, leftOut } of blocks)
    if (leftOut) console.log(`README.md:${line} is not walked: ${leftOut}`);
  const home = temporaryDirectory("walk");
  port = freePort();
  clone = join(home, "footfall");
  const bin = join(home, "bin");
  // curl as a reader uses it, who ends a stream by Ctrl-C.
  writeScript(
    join(bin, "curl"),
    `case " $* " in *" -N "*) ${Bun.which("curl")} -s --max-time ${STREAM_SECONDS} "$@"; exit 0 ;; esac
     exec ${Bun.which("curl")} "$@"`,
  );
  environment = {
    PATH: `${bin}:${dirname(process.execPath)}:${process.env.PATH}`,
    HOME: process.env.HOME ?? home,
    PORT: `${port}`,
    WEBHOOK_ALLOW_PRIVATE: "true",
    PG_BIN_DIR: findPostgres()?.bin ?? "",
    REDIS_SERVER_BIN: findRedis() ?? "",
  };
  await cloneAndStart(home);
}, 300_000);
afterAll(cleanup);

/**
 * The first block as it stands, except for the repository's address. It stays in the foreground
 * until the end.
 */
async function cloneAndStart(home: string): Promise<void> {
  const [cloning = "", ...starting] = first?.lines ?? [];
  const script = cloning.replace("<this repository>", ROOT);
  expect(script).toContain(ROOT);
  const cloned = Bun.spawnSync(["bash", "-ec", script], { cwd: home, env: environment });
  if (cloned.exitCode !== 0) throw new Error(cloned.stderr.toString());
  addUncommitted();
  const up = Bun.spawn(["bash", "-c", `${starting.join("\n")}\n:`], {
    cwd: clone,
    env: environment,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  trackProcess(up);
  onCleanup(async () => {
    signalProcess(Number(readFileSync(join(clone, ".footfall/up.holder"), "utf8")), "SIGTERM");
    await up.exited;
    Bun.spawnSync(["./dev", "clean"], { cwd: clone, env: environment });
  });
  let output = "";
  void (async () => {
    for await (const chunk of up.stdout) output += Buffer.from(chunk).toString();
  })();
  await eventually(() => output.includes("Ctrl-C stops everything.") || up.exitCode !== null, {
    timeoutMs: 280_000,
  });
  expect(output).toContain(`API       http://127.0.0.1:${port}\n`);
}

/** Uncommitted changes are part of what is tested. */
function addUncommitted(): void {
  const list = [
    "git",
    "-C",
    ROOT,
    "ls-files",
    "-z",
    "--modified",
    "--others",
    "--exclude-standard",
    "--deduplicate",
  ];
  for (const name of Bun.spawnSync(list).stdout.toString().split("\0").filter(Boolean)) {
    mkdirSync(dirname(join(clone, name)), { recursive: true });
    copyFileSync(join(ROOT, name), join(clone, name));
  }
}

/** Resolves once the worker has nothing to do: a reader types more slowly than it works. */
function startPatience(): string {
  const url = /^DATABASE_URL=(.*)$/m.exec(readFileSync(join(clone, ".footfall/servers"), "utf8"))?.[1] ?? "";
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch() {
      await eventually(
        async () => {
          const [row] = await sql`select
            (select count(*) from event_batches where rolled_up_at is null)
            + (select count(*) from outbox where undone <> '{}')
            + (select count(*) from order_commands where state = 'waiting')
            + (select count(*) from product_imports where finished_at is null) as waiting`;
          return Number(row?.waiting) === 0;
        },
        { timeoutMs: PATIENCE_MS },
      );
      return new Response();
    },
  });
  onCleanup(async () => {
    await server.stop(true);
    await sql.end();
  });
  return `http://127.0.0.1:${server.port}`;
}

function startReceiver(): string {
  const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
  onCleanup(() => server.stop(true));
  return `http://127.0.0.1:${server.port}/footfall`;
}

test("every block runs as it stands and prints what README says", async () => {
  const script = toScript(rest, { URL: startReceiver() }).replace(`:${README_PORT}`, `:${port}`);
  // Before each command: the status of the one before, its own line number, and a pause until the
  // worker is idle.
  const steps = `step() { printf '\\n\\036%s %s\\n' "$1" "$2"; command curl -s ${startPatience()}; }; trap 'step $LINENO $?' DEBUG; `;
  const run = Bun.spawn(["bash", "-c", `${steps}${script}\ntrue`], {
    cwd: clone,
    env: environment,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  trackProcess(run);
  const [output, errors] = await Promise.all([
    new Response(run.stdout).text(),
    new Response(run.stderr).text(),
  ]);
  const outputs = output
    .split("\x1e")
    .slice(1)
    .map((part) => {
      const [head = "", ...lines] = part.split("\n");
      const [line, before] = head.split(" ").map(Number);
      return { line: line ?? 0, before, text: lines.join("\n").trim() };
    });
  expect(outputs.filter(({ before }) => before !== 0)).toEqual([]);
  expect(outputs.filter(({ text }) => text.includes('"type":"about:blank"'))).toEqual([]);
  const wrong = readExpectations(rest).flatMap(({ line, text }) => {
    const printed = outputs.findLast((one) => one.line <= line && one.text !== "")?.text ?? "";
    const problem = mismatch(text, printed);
    return problem ? [`README.md:${line}: ${problem}`] : [];
  });
  expect(wrong).toEqual([]);
  expect(errors).not.toContain("rror");
}, 300_000);
