import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { ROOT } from "./program.ts";

/**
 * Where `./dev` keeps everything it makes; the file `dev` has checked that it is ours and writable.
 */
const STATE = join(ROOT, ".footfall");

export const inState = (...names: string[]) => join(STATE, ...names);

/** The path as messages show it: relative to the checkout if it is inside. */
export function shown(path: string): string {
  const inside = relative(ROOT, path);
  return inside.startsWith("..") ? path : inside;
}

export function logFile(name: string): string {
  mkdirSync(inState("log"), { recursive: true });
  return inState("log", `${name}.log`);
}

/** The text of a file; empty when there is none, or a folder in its place. */
export function readState(name: string): string {
  try {
    return readFileSync(inState(name), "utf8").trim();
  } catch {
    return "";
  }
}

/** A whole number from a file; null for any other content. */
export function readNumber(name: string): number | null {
  const text = readState(name);
  return /^\d{1,9}$/.test(text) ? Number(text) : null;
}

/** Readable by nobody else, and in place only when complete. */
export function writeState(name: string, text: string): void {
  const draft = inState(`${name}.${process.pid}`);
  writeFileSync(draft, `${text}\n`, { mode: 0o600 });
  if (existsSync(inState(name))) rmSync(inState(name), { recursive: true });
  renameSync(draft, inState(name));
}

export function forget(name: string): void {
  rmSync(inState(name), { force: true });
}

/** The NAME=value lines of a file, and the numbers of the other lines. */
export function readAssignments(name: string): { values: Map<string, string>; bad: number[] } {
  const values = new Map<string, string>();
  const bad: number[] = [];
  for (const [index, line] of readState(name).split("\n").entries()) {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(line);
    if (match?.[1]) values.set(match[1], match[2] ?? "");
    else if (!/^\s*(#|$)/.test(line)) bad.push(index + 1);
  }
  return { values, bad };
}
