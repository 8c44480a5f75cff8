import { runProgram, startApp, startSeed, stopLeftovers } from "../app.ts";
import { setting } from "../environment.ts";
import { countStoppingAsSuccess } from "../leaving.ts";
import { lockOrRefuse } from "../lock.ts";
import { refuse, say } from "../messages.ts";
import { startServers } from "../servers.ts";
import { loadSettings, rememberServers } from "../settings.ts";
import { freePortFrom, isPortFree } from "../waiting.ts";

const FIRST_PORT = 3000;
const LOOPBACK = "127.0.0.1";

/** Postgres, Redis, the API and a worker, until a signal comes. */
export async function up(): Promise<number> {
  lockOrRefuse("up", "./dev up is already running in this checkout");
  await stopLeftovers();
  const host = setting("HOST") ?? LOOPBACK;
  choosePort(host);
  const kept = loadSettings();
  const { databaseUrl, redisUrl, isPrivate } = await startServers();
  const settings = { ...kept, DATABASE_URL: databaseUrl, REDIS_URL: redisUrl, HOST: host };
  rememberServers({ databaseUrl, redisUrl });
  say("migrating the database");
  if ((await runProgram(["migrate"], settings)) !== 0)
    refuse("the database could not be migrated; the reason is above.");
  // The password that we print works, even when .footfall/env was lost. Somebody's own database
  // keeps its own.
  const admin = ["admin", "create", ...(isPrivate ? ["--promote", "--set-password"] : [])];
  if ((await runProgram(admin, settings)) !== 0)
    refuse("the admin account could not be made; the reason is above.");
  const { app, env } = await startOnPort(settings);
  countStoppingAsSuccess();
  console.log(welcome(env, await signInWorks(env)));
  startSeed(env);
  return refuse(`Footfall stopped by itself (exit code ${await app.exited}); its reason is above.`);
}

/**
 * Somebody may take the port before the program does. Then another one is chosen, unless one was
 * given.
 */
async function startOnPort(settings: Record<string, string> & { HOST: string }) {
  for (;;) {
    const port = choosePort(settings.HOST);
    const env = { ...settings, PORT: `${port}` };
    say(`starting Footfall on port ${port}`);
    const app = await startApp(env);
    if (app) return { app, env };
    if (setting("PORT") || isPortFree(port, settings.HOST))
      refuse("Footfall stopped before it was ready; its reason is above.");
    say(`port ${port} was taken meanwhile`);
  }
}

function choosePort(host: string): number {
  const given = setting("PORT");
  if (given === undefined) return freePortFrom(FIRST_PORT, null, host);
  const port = Number(given);
  if (!/^\d+$/.test(given) || port < 1 || port > 65_535)
    refuse(`PORT is ${given}: it must be a number from 1 to 65535.`);
  if (!isPortFree(port, host))
    refuse(
      `port ${port} is taken: choose another one, for example PORT=${freePortFrom(port + 1, null, host)} ./dev up.`,
    );
  return port;
}

type Environment = Record<"PORT" | "HOST", string> & Record<string, string>;

function addressOf({ HOST, PORT }: Environment): string {
  const host = HOST === "0.0.0.0" || HOST === "::" ? LOOPBACK : HOST;
  return `http://${host.includes(":") ? `[${host}]` : host}:${PORT}`;
}

async function signInWorks(env: Environment): Promise<boolean> {
  const response = await fetch(`${addressOf(env)}/auth/login`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ email: env.ADMIN_EMAIL, password: env.ADMIN_PASSWORD }),
  });
  return response.ok;
}

function welcome(env: Environment, isPasswordRight: boolean): string {
  const url = addressOf(env);
  const { ADMIN_EMAIL: email, ADMIN_PASSWORD: password, HOST: host } = env;
  const signIn = isPasswordRight
    ? `${email}  ${password}`
    : `${email}, with the password that your database knows (none that ./dev up made)`;
  return `
  Footfall is running${host === LOOPBACK ? "" : `, and listens on ${host}`}.

  API       ${url}
  Docs      ${url}/docs
  Health    ${url}/health
  Sign in   ${signIn}
  Shop      the tenant "default", whose demo data is made in the background on the first start

  curl -s ${url}/auth/login -H 'content-type: application/json' \\
    -d '{"email":"${email}","password":"${isPasswordRight ? password : "…"}"}'

  Ctrl-C stops everything.
`;
}
