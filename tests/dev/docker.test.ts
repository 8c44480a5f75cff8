/** Reads the files of docker/. Only an engine could show whether it accepts them. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { SETTINGS } from "../../scripts/private-redis.ts";

const ROOT = join(import.meta.dir, "../..");
const read = (name: string) => readFileSync(join(ROOT, name), "utf8");

interface Service {
  image?: string;
  build?: { context: string; dockerfile: string };
  command?: string;
  environment?: Record<string, string>;
  ports?: string[];
  healthcheck: { test: string[] };
  depends_on?: Record<string, { condition: string }>;
}
const { services } = parse(read("docker/compose.yaml")) as {
  services: Record<"footfall" | "postgres" | "redis", Service>;
};

test("every service has a health check, and Footfall waits for those of its servers", () => {
  for (const { healthcheck } of Object.values(services))
    expect(healthcheck.test[0]).toMatch(/^CMD(-SHELL)?$/);
  expect(services.footfall.depends_on).toEqual({
    postgres: { condition: "service_healthy" },
    redis: { condition: "service_healthy" },
  });
});

test("only this machine reaches it, and nobody makes an account unasked", () => {
  expect(services.footfall.ports).toEqual(["127.0.0.1:3000:3000"]);
  for (const { ports } of [services.postgres, services.redis]) expect(ports).toBeUndefined();
  expect(services.footfall.environment).toMatchObject({
    NODE_ENV: "production",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: compose's own placeholder
    SIGNUPS: "${SIGNUPS:-closed}",
  });
});

test("Postgres is the version that is tested; Redis is bounded as ./dev has it, and saves nothing", () => {
  const tested = /tested on Postgres (\d+)/.exec(read("README.md"))?.[1];
  expect(services.postgres.image).toBe(`postgres:${tested}`);
  expect(read("scripts/missing-programs.ts")).toContain(`postgres:${tested}"`);
  const command = services.redis.command ?? "";
  for (const [name, value] of Object.entries(SETTINGS)) expect(command).toContain(`--${name} ${value}`);
  expect(command).toContain('--save "" --appendonly no');
});

test("the health check of Footfall is right about what answers on its port", async () => {
  let status = 200;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) =>
      new Response("", { status: new URL(request.url).pathname === "/ready" ? status : 404 }),
  });
  const [, ...command] = services.footfall.healthcheck.test.map((word) =>
    word.replaceAll("$$", "$").replace("/127.0.0.1/3000", `/127.0.0.1/${server.port}`),
  );
  const check = async () => {
    const child = Bun.spawn(command, { stdout: "ignore", stderr: "ignore" });
    return (await child.exited) === 0;
  };
  expect(await check()).toBe(true);
  status = 503;
  expect(await check()).toBe(false);
  await server.stop(true);
  expect(await check()).toBe(false);
});

test("the image is built from files that are there, by the Bun that ./dev takes", () => {
  const dockerfile = read("docker/Dockerfile");
  const version = /BUN_VERSION=(\S+)/.exec(read("dev"))?.[1];
  expect(dockerfile).toContain(`FROM oven/bun:${version}-slim AS build\n`);
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, names = ""]) =>
    names.split(" "),
  );
  expect(copied.filter((name) => !existsSync(join(ROOT, name)))).toEqual([]);
  expect(copied).toContain("package.json");
});
