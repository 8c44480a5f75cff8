import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { cleanup, temporaryDirectory } from "../harness.ts";

afterAll(cleanup);

/** What a minimal system offers: neither Bun nor npm, nor a package manager. */
const SYSTEM_TOOLS =
  "awk base64 bash cat chmod cksum cut date dirname env getconf grep head id ln ls mkdir mkfifo mv readlink rm sed sh sleep sort tail tee touch tr";

/** A checkout that has nothing but ./dev, with a PATH of its own. */
function checkout(): {
  root: string;
  bin: string;
  dev: (args: string[], env?: Record<string, string>) => Run;
} {
  const root = temporaryDirectory("checkout");
  const bin = join(root, "bin");
  mkdirSync(bin);
  for (const tool of SYSTEM_TOOLS.split(" ")) {
    const path = Bun.which(tool);
    if (path) symlinkSync(path, join(bin, tool));
  }
  copyFileSync(join(import.meta.dir, "../../dev"), join(root, "dev"));
  const dev = (args: string[], env: Record<string, string> = {}): Run => {
    const child = Bun.spawnSync(["./dev", ...args], { cwd: root, env: { PATH: bin, HOME: root, ...env } });
    return { exitCode: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString() };
  };
  return { root, bin, dev };
}

interface Run {
  exitCode: number;
  stdout: string;
  stderr: string;
}

function writeScript(path: string, body: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
}

describe("./dev", () => {
  test("lists its commands, and refuses any other in one sentence", () => {
    const { dev } = checkout();
    const help = dev([]);
    expect(help.exitCode).toBe(0);
    for (const command of ["up", "test", "check", "build", "bun", "clean"])
      expect(help.stdout).toContain(`./dev ${command}`);
    expect(dev(["depoly"])).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: "error: there is no ./dev depoly: ./dev help lists the commands.\n",
    });
  });

  test("says what to install when there is neither Bun nor npm", () => {
    const { exitCode, stdout, stderr } = checkout().dev(["up"]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(/^error: Footfall needs Bun [^\n]+\n$/);
  });

  test("fetches Bun by npm when the one on the PATH is too old, also where npm blocks install scripts", () => {
    const { root, bin, dev } = checkout();
    const modules = join(root, ".footfall/toolchain/node_modules");
    writeScript(join(bin, "bun"), "echo 1.3.9");
    writeScript(join(root, "stub"), "exit 1");
    writeScript(join(root, "real"), '[ "$1" = --version ] && echo 1.4.5 || echo "bun got $*"');
    writeScript(
      join(bin, "npm"),
      `mkdir -p ${modules}/.bin ${modules}/@oven/bun-linux-x64/bin
       ln -s ${root}/stub ${modules}/.bin/bun; ln -s ${root}/real ${modules}/@oven/bun-linux-x64/bin/bun`,
    );
    expect(dev(["bun", "run", "x"]).stdout).toEndWith("bun got run x\n");
    expect(dev(["bun", "again"])).toEqual({ exitCode: 0, stdout: "bun got again\n", stderr: "" });
    expect(dev(["clean"]).exitCode).toBe(0);
    expect(existsSync(join(root, ".footfall"))).toBe(false);
  });
});

describe("./dev test", () => {
  function project(files: Record<string, string>, env: Record<string, string> = {}) {
    const made = checkout();
    symlinkSync(process.execPath, join(made.bin, "bun"));
    writeFileSync(join(made.root, "package.json"), "{}");
    writeFileSync(join(made.root, "bun.lock"), "{}");
    const checksum = Bun.spawnSync(["sh", "-c", "cat package.json bun.lock | cksum"], {
      cwd: made.root,
    }).stdout;
    mkdirSync(join(made.root, "node_modules"));
    writeFileSync(join(made.root, "node_modules/.footfall-stamp"), checksum);
    for (const [name, body] of Object.entries(files))
      writeFileSync(join(made.root, `${name}.test.ts`), `import { test } from "bun:test";\n${body}`);
    const run = (...args: string[]) => {
      const { exitCode, stdout } = made.dev(["test", ...args], {
        TEST_DATABASE_URL: "postgres://none",
        REDIS_SERVER_BIN: join(made.bin, "sh"),
        ...env,
      });
      const lines = stdout.trimEnd().split("\n");
      return { exitCode, last: lines.at(-1), before: lines.at(-2) };
    };
    return { root: made.root, run };
  }

  test("ends with the sum and fails when anything failed", () => {
    const { run } = project({
      good: `test("a", () => {}); test("b", () => {});`,
      mixed: `test("c", () => {}); test.skip("d", () => {}); test.todo("e");`,
      bad: `test("f", () => { throw new Error("on purpose"); });`,
      broken: `throw new Error("on purpose");`,
    });
    expect(run("good", "mixed")).toMatchObject({ exitCode: 0, last: "3 passed, 0 failed, 2 skipped" });
    expect(run("good", "bad")).toMatchObject({ exitCode: 1, last: "2 passed, 1 failed" });
    expect(run("good", "broken")).toMatchObject({ exitCode: 1, last: "2 passed, 1 failed" });
  });

  test("--slow asks for many rounds, unless the caller has said how many", () => {
    const body = `test("a", () => {
      const { PROPERTY_CASES, IDEMPOTENCY_ROUNDS, FAULT_ROUNDS } = process.env;
      require("node:fs").writeFileSync("asked", [PROPERTY_CASES, IDEMPOTENCY_ROUNDS, FAULT_ROUNDS].join());
    });`;
    const { root, run } = project({ rounds: body }, { FAULT_ROUNDS: "3" });
    for (const [args, asked] of [
      [["rounds"], ",,3"],
      [["--slow", "rounds"], "20000,1000,3"],
    ] as const) {
      expect(run(...args)).toMatchObject({ exitCode: 0, last: "1 passed, 0 failed" });
      expect(readFileSync(join(root, "asked"), "utf8")).toBe(asked);
    }
  });

  test("counts a runner that broke, and a filter that matches nothing, as a failure", () => {
    const { run } = project({
      good: `test("a", () => {});`,
      crash: `test("b", () => process.kill(process.pid, "SIGKILL"));`,
      quits: `test("c", () => process.exit(0));`,
    });
    expect(run("good", "crash")).toMatchObject({ exitCode: 1, last: "1 passed, 1 failed" });
    expect(run("good", "quits")).toMatchObject({ exitCode: 1, last: "1 passed, 1 failed" });
    for (const args of [["crash"], ["quits"], ["absent"], ["good", "-t", "absent"]]) {
      const { exitCode, last, before } = run(...args);
      expect({ args, exitCode, last }).toEqual({ args, exitCode: 1, last: "0 passed, 1 failed" });
      expect(before).toMatch(/^==> .*no test/);
    }
  });

  test("runs once at a time in a checkout, and takes over the lock of a run that died", () => {
    const { root, run } = project({ good: `test("a", () => {});` });
    const other = Bun.spawn(["bash", "-c", "exec -a './dev test' sleep 30"]);
    mkdirSync(join(root, ".footfall"));
    const lock = join(root, ".footfall/test.lock");
    writeFileSync(lock, `${other.pid}\n`);
    expect(run()).toMatchObject({ exitCode: 1, last: "" });
    other.kill();
    writeFileSync(lock, `${2 ** 22 + 1}\n`);
    expect(run()).toMatchObject({ exitCode: 0, last: "1 passed, 0 failed" });
    expect(existsSync(lock)).toBe(false);
  });
});
