import { Database } from "bun:sqlite";
import { rmSync } from "node:fs";
import { refuse } from "./messages.ts";
import { forget, inState, readNumber, writeState } from "./state.ts";

const POLL_MS = 200;
const held = new Map<string, Database>();

/**
 * A lock for the life of this process. It is SQLite's lock on an empty file, since Bun has no
 * flock. The kernel releases it with the process, so nobody has to judge whether a holder still
 * lives.
 */
function tryLock(name: string): boolean {
  const file = inState(`${name}.lock`);
  const database = new Database(file, { create: true });
  try {
    // Nothing is ever written, so there is nothing to roll back.
    database.run("pragma journal_mode = off");
    database.run("begin exclusive");
  } catch (error) {
    database.close();
    if ((error as { code?: string }).code === "SQLITE_BUSY") return false;
    // No lock file of ours, such as one of an older ./dev.
    rmSync(file, { recursive: true });
    return tryLock(name);
  }
  held.set(name, database);
  writeState(`${name}.holder`, `${process.pid}`);
  return true;
}

/** Takes the lock, or refuses with `message` and the holder's pid. */
export function lockOrRefuse(name: string, message: string): void {
  if (!tryLock(name)) refuse(`${message} (process ${readNumber(`${name}.holder`) ?? "unknown"}).`);
}

/** Runs `work` while nobody else in this checkout does the same. */
export async function whileLocked<T>(name: string, work: () => Promise<T>): Promise<T> {
  while (!tryLock(name)) await Bun.sleep(POLL_MS);
  try {
    return await work();
  } finally {
    forget(`${name}.holder`);
    held.get(name)?.close();
    held.delete(name);
  }
}
