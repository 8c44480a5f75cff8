/** The only file of scripts/ that reads the environment. */

/** What the caller has set; an empty variable is not set. */
export function setting(name: string): string | undefined {
  return process.env[name] || undefined;
}

/** The environment for a child process: ours, with `changes`. */
export function environment(changes: Record<string, string | undefined> = {}): Record<string, string> {
  const merged = Object.entries({ ...process.env, ...changes });
  return Object.fromEntries(merged.filter((entry): entry is [string, string] => entry[1] !== undefined));
}
