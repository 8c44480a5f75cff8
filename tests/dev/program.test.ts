/** What `./dev up` concludes about the program it starts; another program stands in for it. */
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isPortFree } from "../../scripts/waiting.ts";
import { cleanup, eventually, freePort } from "../harness.ts";
import { PATIENCE, readyCheckout } from "./checkout.ts";

afterAll(cleanup);

/** A checkout whose `footfall up` is this code; the other commands do nothing. */
async function withProgram(up: string) {
  const checkout = await readyCheckout();
  unlinkSync(join(checkout.root, "src"));
  mkdirSync(join(checkout.root, "src"));
  writeFileSync(
    join(checkout.root, "src/cli.ts"),
    `import { existsSync, writeFileSync } from "node:fs";\nif (process.argv[2] === "up") { ${up} }\n`,
  );
  const port = freePort();
  // Given servers: this is not about them.
  const env = { PORT: `${port}`, DATABASE_URL: "postgres://given", REDIS_URL: "redis://given" };
  return { ...checkout, port, env };
}

test("a stranger who answers on its port is not believed", async () => {
  const up = `writeFileSync("asked", ""); while (!existsSync("answered")) await Bun.sleep(20);
    console.error("footfall: the port is taken"); process.exit(1);`;
  const { root, port, env, start } = await withProgram(up);
  const dev = start(["up"], env);
  await eventually(() => existsSync(join(root, "asked")), PATIENCE);
  const stranger = Bun.serve({ hostname: "127.0.0.1", port, fetch: () => new Response("{}") });
  // Long enough for a client that asks the port to get an answer.
  await Bun.sleep(500);
  writeFileSync(join(root, "answered"), "");
  expect(await dev.exited).toBe(1);
  await stranger.stop(true);
  expect(dev.output()).not.toContain("Footfall is running");
  expect(dev.output()).toContain("footfall: the port is taken\n");
  expect(dev.output()).toEndWith(
    "error: Footfall stopped before it was ready; its reason is above.\n==> stopping\n",
  );
}, 300_000);

test("a port that is taken while it starts is left to the other, unless it was given", async () => {
  const up = `if (!existsSync("asked")) {
      writeFileSync("asked", process.env.PORT); while (!existsSync("answered")) await Bun.sleep(20); process.exit(1); }
    Bun.serve({ hostname: process.env.HOST, port: Number(process.env.PORT), fetch: () => new Response("{}") });
    process.on("SIGTERM", () => process.exit(0)); process.send({ listening: true });`;
  const { root, env, start } = await withProgram(up);
  const dev = start(["up"], { ...env, PORT: "" });
  await eventually(() => existsSync(join(root, "asked")), PATIENCE);
  const asked = Number(readFileSync(join(root, "asked"), "utf8"));
  // If another process took the port meanwhile, that one will do.
  const other = isPortFree(asked)
    ? Bun.serve({ hostname: "127.0.0.1", port: asked, fetch: () => new Response() })
    : null;
  writeFileSync(join(root, "answered"), "");
  await dev.says("Ctrl-C stops everything.");
  expect(dev.output()).toContain(`==> port ${asked} was taken meanwhile\n`);
  const chosen = /API +http:\/\/127\.0\.0\.1:(\d+)/.exec(dev.output())?.[1];
  expect(Number(chosen)).not.toBe(asked);
  expect(await dev.end("SIGTERM")).toBe(0);
  await other?.stop(true);
}, 300_000);

test("a password that a given database does not know is not printed", async () => {
  const up = `Bun.serve({ hostname: process.env.HOST, port: Number(process.env.PORT),
      fetch: () => new Response("{}", { status: 401 }) });
    process.on("SIGTERM", () => process.exit(0)); process.send({ listening: true });`;
  const { env, start } = await withProgram(up);
  const dev = start(["up"], env);
  await dev.says("Ctrl-C stops everything.");
  expect(dev.output()).toContain(
    "Sign in   admin@footfall.local, with the password that your database knows (none that ./dev up made)\n",
  );
  expect(await dev.end("SIGTERM")).toBe(0);
}, 300_000);

test("a signal while it starts ends it with the signal's code", async () => {
  const { root, env, start } = await withProgram(
    `writeFileSync("asked", ""); process.on("SIGTERM", () => process.exit(0)); await Bun.sleep(60_000);`,
  );
  const dev = start(["up"], env);
  await eventually(() => existsSync(join(root, "asked")), PATIENCE);
  expect(await dev.end("SIGINT")).toBe(130);
}, 300_000);

test("a second signal does not wait for what stops slowly", async () => {
  const { root, env, start } = await withProgram(
    `writeFileSync("asked", ""); process.on("SIGTERM", () => writeFileSync("stopping", "")); await Bun.sleep(60_000);`,
  );
  const dev = start(["up"], env);
  await eventually(() => existsSync(join(root, "asked")), PATIENCE);
  process.kill(dev.pid, "SIGINT");
  await eventually(() => existsSync(join(root, "stopping")), PATIENCE);
  const startedAt = performance.now();
  expect(await dev.end("SIGINT")).toBe(130);
  // The program alone would have had fifteen seconds.
  expect(performance.now() - startedAt).toBeLessThan(14_000);
}, 300_000);
