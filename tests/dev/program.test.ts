/** What `./dev up` believes of the program it starts; a made-up program stands in for it. */
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cleanup, eventually, freePort } from "../harness.ts";
import { readyCheckout } from "./checkout.ts";

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
  await eventually(() => existsSync(join(root, "asked")));
  const stranger = Bun.serve({ hostname: "127.0.0.1", port, fetch: () => new Response("{}") });
  // Long enough for whoever asks the port to have an answer.
  await Bun.sleep(500);
  writeFileSync(join(root, "answered"), "");
  expect(await dev.exited).toBe(1);
  await stranger.stop(true);
  expect(dev.output()).not.toContain("Footfall is running");
  expect(dev.output()).toContain("footfall: the port is taken\n");
  expect(dev.output()).toEndWith(
    "error: Footfall stopped before it was ready; its reason is above.\n==> stopping\n",
  );
});

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
});

test("a signal while it starts ends it with the signal's code", async () => {
  const { root, env, start } = await withProgram(
    `writeFileSync("asked", ""); process.on("SIGTERM", () => process.exit(0)); await Bun.sleep(60_000);`,
  );
  const dev = start(["up"], env);
  await eventually(() => existsSync(join(root, "asked")));
  expect(await dev.end("SIGINT")).toBe(130);
});

test("a second signal does not wait for what stops slowly", async () => {
  const { root, env, start } = await withProgram(
    `writeFileSync("asked", ""); process.on("SIGTERM", () => writeFileSync("stopping", "")); await Bun.sleep(60_000);`,
  );
  const dev = start(["up"], env);
  await eventually(() => existsSync(join(root, "asked")));
  process.kill(dev.pid, "SIGINT");
  await eventually(() => existsSync(join(root, "stopping")));
  const startedAt = performance.now();
  expect(await dev.end("SIGINT")).toBe(130);
  // The program alone would have had fifteen seconds.
  expect(performance.now() - startedAt).toBeLessThan(10_000);
});
