import { setting } from "./environment.ts";
import { say } from "./messages.ts";
import { randomText } from "./random-text.ts";
import { forget, inState, readAssignments, shown, writeState } from "./state.ts";

const FILE = "env";

/** What `up` must have, with a check and a maker of each. */
const SECRETS: Record<string, { isValid: (value: string) => boolean; make: () => string }> = {
  JWT_SECRET: { isValid: (value) => value.length >= 32, make: () => randomText(64) },
  ADMIN_EMAIL: {
    isValid: (value) => /^[^@\s]+@[^@\s]+\.[^@\s]+$/.test(value),
    make: () => "admin@footfall.local",
  },
  ADMIN_PASSWORD: {
    isValid: (value) => value.length >= 8 && value.length <= 128,
    make: () => randomText(20),
  },
};

/**
 * The settings that .footfall/env keeps, so that sessions and the password survive a restart.
 * Missing or damaged ones are made anew. What the caller has set wins.
 */
export function loadSettings(): Record<string, string> {
  const { values, bad } = readAssignments(FILE);
  const made = values.size > 0 || bad.length > 0;
  const renewed: string[] = [];
  for (const [name, { isValid, make }] of Object.entries(SECRETS)) {
    if (isValid(values.get(name) ?? "")) continue;
    values.set(name, make());
    renewed.push(name);
  }
  if (made && (bad.length > 0 || renewed.length > 0)) {
    const anew = renewed.length > 0 ? `, ${renewed.join(", ")} made anew` : "";
    const left = bad.length > 0 ? `, line ${bad.join(", ")} left out` : "";
    say(`${shown(inState(FILE))} was damaged${anew}${left}`);
  }
  if (bad.length > 0 || renewed.length > 0)
    writeState(FILE, [...values].map(([name, value]) => `${name}=${value}`).join("\n"));
  return Object.fromEntries([...values].map(([name, value]) => [name, setting(name) ?? value]));
}

/** So that `./dev footfall` reaches the servers of a running `up`. */
export function rememberServers(servers: { databaseUrl: string; redisUrl: string }): void {
  writeState("servers", `DATABASE_URL=${servers.databaseUrl}\nREDIS_URL=${servers.redisUrl}`);
}

/** A text that is no URL is left out, and the program says that it is not set. */
export function rememberedServers(): Record<string, string> {
  const { values } = readAssignments("servers");
  const known = [...values].filter(
    ([name, value]) => /^(DATABASE|REDIS)_URL$/.test(name) && URL.canParse(value),
  );
  if (known.length < 2) forget("servers");
  return Object.fromEntries(known.map(([name, value]) => [name, setting(name) ?? value]));
}
