/** What `./dev` does before there is a Bun, and how `./dev test` judges a run. */
import { Database } from "bun:sqlite";
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cleanup } from "../harness.ts";
import { bareCheckout, readyCheckout, writeScript } from "./checkout.ts";

afterAll(cleanup);

describe("./dev", () => {
  test("lists its commands, and refuses any other in one sentence", () => {
    const { dev } = bareCheckout();
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
    const { exitCode, stdout, stderr } = bareCheckout().dev(["up"]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(/^error: Footfall needs Bun [^\n]+\n$/);
  });

  test("fetches Bun by npm when the one on the PATH is too old, also where npm blocks install scripts", () => {
    const { root, bin, dev } = bareCheckout();
    writeScript(join(bin, "bun"), "echo 1.3.9");
    writeScript(join(root, "stub"), "exit 1");
    writeScript(join(root, "real"), '[ "$1" = -e ] && echo 1.4.5 || echo "bun got $*"');
    writeScript(
      join(bin, "npm"),
      `[ "$1" = install ] || exit 0
       mkdir -p $3/node_modules/.bin $3/node_modules/@oven/bun-linux-x64/bin
       ln -s ${root}/stub $3/node_modules/.bin/bun
       ln -s ${root}/real $3/node_modules/@oven/bun-linux-x64/bin/bun`,
    );
    expect(dev(["bun", "run", "x"]).stdout).toEndWith("bun got run x\n");
    expect(dev(["bun", "again"])).toEqual({ exitCode: 0, stdout: "bun got again\n", stderr: "" });
  });

  test("deletes what it made, also a .footfall that is damaged", async () => {
    const { root, dev } = await readyCheckout();
    mkdirSync(join(root, ".footfall/postgres/data"), { recursive: true });
    for (const name of ["up.lock", "app.pid", "redis.pid", "postgres.home", "env"])
      writeFileSync(join(root, ".footfall", name), "\0garbage\n");
    expect(dev(["clean"])).toMatchObject({ exitCode: 0, stderr: "" });
    expect(existsSync(join(root, ".footfall"))).toBe(false);
    expect(dev(["clean"])).toEqual({ exitCode: 0, stdout: "", stderr: "" });
  });
});

describe("./dev test", () => {
  async function project(files: Record<string, string>, env: Record<string, string> = {}) {
    const { root, bin, dev } = await readyCheckout();
    for (const [name, body] of Object.entries(files))
      writeFileSync(join(root, `${name}.test.ts`), `import { test } from "bun:test";\n${body}`);
    const run = (...args: string[]) => {
      const { exitCode, stdout, stderr } = dev(["test", ...args], {
        TEST_DATABASE_URL: "postgres://none",
        REDIS_SERVER_BIN: join(bin, "sh"),
        ...env,
      });
      const lines = stdout.trimEnd().split("\n");
      return { exitCode, last: lines.at(-1), before: lines.at(-2), stdout, stderr };
    };
    return { root, run };
  }

  test("ends with the sum and fails when anything failed", async () => {
    const { run } = await project({
      good: `test("a", () => {}); test("b", () => {});`,
      mixed: `test("c", () => {}); test.skip("d", () => {}); test.todo("e");`,
      bad: `test("f", () => { throw new Error("on purpose"); });`,
      broken: `throw new Error("on purpose");`,
    });
    expect(run("good", "mixed")).toMatchObject({ exitCode: 0, last: "3 passed, 0 failed, 2 skipped" });
    expect(run("good", "bad")).toMatchObject({ exitCode: 1, last: "2 passed, 1 failed" });
    expect(run("good", "broken")).toMatchObject({ exitCode: 1, last: "2 passed, 1 failed" });
  });

  test("--slow asks for many rounds, unless the caller has said how many", async () => {
    const body = `test("a", () => {
      const { PROPERTY_CASES, IDEMPOTENCY_ROUNDS, FAULT_ROUNDS } = process.env;
      require("node:fs").writeFileSync("asked", [PROPERTY_CASES, IDEMPOTENCY_ROUNDS, FAULT_ROUNDS].join());
    });`;
    const { root, run } = await project({ rounds: body }, { FAULT_ROUNDS: "3" });
    for (const [args, asked] of [
      [["rounds"], ",,3"],
      [["--slow", "rounds"], "20000,1000,3"],
    ] as const) {
      expect(run(...args)).toMatchObject({ exitCode: 0, last: "1 passed, 0 failed" });
      expect(readFileSync(join(root, "asked"), "utf8")).toBe(asked);
    }
  });

  test("--repeat runs it so many times, and says what failed how often", async () => {
    const { run, root } = await project({
      good: `test("steady", () => {});`,
      moody: `test("fails from the third round on", () => {
        const { existsSync, writeFileSync } = require("node:fs");
        if (existsSync("second")) throw new Error("on purpose");
        if (existsSync("first")) writeFileSync("second", "");
        writeFileSync("first", "");
      });`,
    });
    const { exitCode, last, stdout } = run("--repeat", "4", "good", "moody");
    expect({ exitCode, last }).toEqual({ exitCode: 1, last: "6 passed, 2 failed" });
    expect(stdout).toContain("==> round 1 of 4: 2 passed, 0 failed in ");
    expect(stdout).toContain(
      "2 of 4 rounds without a failure\n     2  fails from the third round on\n6 passed",
    );
    expect(existsSync(join(root, "second"))).toBe(true);
    expect(run("--repeat", "often").stderr).toStartWith("error: --repeat wants a number of rounds");
  });

  test("counts a runner that broke, and a filter that matches nothing, as a failure", async () => {
    const { run } = await project({
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

  test("runs once at a time in a checkout, and needs no lock file that is whole", async () => {
    const { root, run } = await project({ good: `test("a", () => {});` });
    mkdirSync(join(root, ".footfall"));
    const lock = join(root, ".footfall/test.lock");
    const other = new Database(lock, { create: true });
    other.run("begin exclusive");
    writeFileSync(join(root, ".footfall/test.holder"), "4711\n");
    const refused = run();
    expect(refused).toMatchObject({ exitCode: 1, last: "" });
    expect(refused.stderr).toBe("error: another ./dev test is running in this checkout (process 4711).\n");
    other.close();
    expect(run()).toMatchObject({ exitCode: 0, last: "1 passed, 0 failed" });
    writeFileSync(lock, "4711\n");
    expect(run()).toMatchObject({ exitCode: 0, last: "1 passed, 0 failed" });
  });
});
