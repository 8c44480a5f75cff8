/** A registry that refuses, or accepts connections and is silent; and a Bun that is cut off. */
import { afterAll, expect, test } from "bun:test";
import { closeSync, openSync, readSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cleanup, freePort, onCleanup } from "../harness.ts";
import { bareCheckout, linkTools, writeScript } from "./checkout.ts";

afterAll(cleanup);

/** Well below the 72 to 150 seconds that npm and Bun take by themselves. */
const PATIENCE_MS = 60_000;

function silentRegistry(): string {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  onCleanup(() => server.stop(true));
  return `http://127.0.0.1:${server.port}`;
}

const registries = [
  ["refuses", () => `http://127.0.0.1:${freePort()}`],
  ["says nothing", silentRegistry],
] as const;

const npm = Bun.which("npm");
const node = Bun.which("node");
if (!npm || !node)
  console.log("skipped: Bun from a registry that does not answer, since npm is not installed");

for (const [what, make] of registries) {
  test.skipIf(!npm || !node).concurrent(
    `npm: a registry that ${what} is one sentence within seconds`,
    async () => {
      const { root, bin, start } = bareCheckout();
      linkTools(bin, ["npm", "node"]);
      const startedAt = performance.now();
      const dev = start(["up"], { npm_config_registry: make(), npm_config_cache: join(root, "cache") });
      expect(await dev.exited).toBe(1);
      expect(performance.now() - startedAt).toBeLessThan(PATIENCE_MS);
      const lines = dev.output().trimEnd().split("\n");
      expect(lines[0]).toBe("==> installing Bun 1.4.5 into .footfall/toolchain (about 40 MB)");
      expect(lines.at(-1)).toMatch(/^error: the npm registry does not answer or has no bun@1\.4\.5: /);
      for (const line of lines.slice(1, -1)) expect(line).toMatch(/^==> still waiting for npm \(\d+ s\)$/);
    },
    300_000,
  );

  test.concurrent(`packages: a registry that ${what} is one sentence within seconds`, async () => {
    const { root, bin, start } = bareCheckout();
    symlinkSync(process.execPath, join(bin, "bun"));
    const dependencies = { absent: "1.0.0" };
    writeFileSync(join(root, "package.json"), JSON.stringify({ name: "shop", dependencies }));
    const packages = { absent: ["absent@1.0.0", "", {}, `sha512-${Buffer.alloc(64).toString("base64")}`] };
    const workspaces = { "": { name: "shop", dependencies } };
    writeFileSync(join(root, "bun.lock"), JSON.stringify({ lockfileVersion: 1, workspaces, packages }));
    const startedAt = performance.now();
    const dev = start(["up"], { BUN_CONFIG_REGISTRY: make(), BUN_INSTALL_CACHE_DIR: join(root, "cache") });
    expect(await dev.exited).toBe(1);
    expect(performance.now() - startedAt).toBeLessThan(PATIENCE_MS);
    const lines = dev.output().trimEnd().split("\n");
    expect(lines[0]).toBe("==> installing packages");
    expect(lines.at(-1)).toMatch(
      /^error: the packages could not be installed, because the npm registry does not answer: /,
    );
    for (const line of lines.slice(1, -1)) expect(line).toMatch(/^==> still installing packages \(\d+ s\)$/);
  }, 300_000);
}

test("a Bun in .footfall that is cut off is fetched again", () => {
  const { root, bin, dev } = bareCheckout();
  const cut = join(root, ".footfall/toolchain/node_modules/.bin/bun");
  writeScript(cut, "");
  const part = Buffer.alloc(1_000_000);
  const whole = openSync(process.execPath, "r");
  readSync(whole, part);
  closeSync(whole);
  writeFileSync(cut, part);
  writeScript(
    join(bin, "npm"),
    `[ "$1" = install ] || exit 0
     mkdir -p $3/node_modules/.bin && ln -s ${process.execPath} $3/node_modules/.bin/bun`,
  );
  expect(dev(["bun", "--version"])).toEqual({
    exitCode: 0,
    stdout: `==> the Bun in .footfall/toolchain does not run
==> installing Bun 1.4.5 into .footfall/toolchain (about 40 MB)
${Bun.version}\n`,
    stderr: "",
  });
  rmSync(cut);
  writeScript(cut, "");
  writeFileSync(cut, part);
  rmSync(join(bin, "npm"));
  const { exitCode, stderr } = dev(["bun", "--version"]);
  expect({ exitCode, lines: stderr.trimEnd().split("\n").length }).toEqual({ exitCode: 1, lines: 1 });
});
