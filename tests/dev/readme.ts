import { readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * README.md as the walk reads it: its blocks of shell commands, and what they print according to
 * it.
 */

export interface Block {
  /** The number of its first line in the file, from 1. */
  line: number;
  lines: string[];
  /** Why it is left out, from the comment before it. */
  leftOut: string | null;
}

export interface Expectation {
  line: number;
  text: string;
}

const LEFT_OUT = /^<!-- not walked: (.+) -->$/;
/** A value that only the reader has. */
const YOURS = /^(\w+)=\S+ +# yours$/;
const PRINTS = /^# → (.+)$/;

export function readBlocks(text = readFileSync(join(import.meta.dir, "../../README.md"), "utf8")): Block[] {
  const blocks: Block[] = [];
  const lines = text.split("\n");
  let open: Block | null = null;
  for (const [index, line] of lines.entries()) {
    if (line === "```sh") {
      open = { line: index + 2, lines: [], leftOut: LEFT_OUT.exec(lines[index - 1] ?? "")?.[1] ?? null };
    } else if (line.startsWith("```") && open) {
      blocks.push(open);
      open = null;
    } else open?.lines.push(line);
  }
  return blocks;
}

/**
 * One script of all blocks, in which every command keeps its line number. `values` holds the
 * reader's values.
 */
export function toScript(blocks: readonly Block[], values: Readonly<Record<string, string>>): string {
  const script: string[] = [];
  for (const { line, lines } of blocks) {
    while (script.length < line - 1) script.push("");
    for (const text of lines) {
      const name = YOURS.exec(text)?.[1];
      if (name !== undefined && values[name] === undefined) throw new Error(`README: no value for ${name}`);
      script.push(name === undefined ? text : `${name}=${values[name]}`);
    }
  }
  return script.join("\n");
}

export function readExpectations(blocks: readonly Block[]): Expectation[] {
  return blocks.flatMap(({ line, lines }) =>
    lines.flatMap((text, index) => {
      const printed = PRINTS.exec(text)?.[1];
      return printed === undefined ? [] : [{ line: line + index, text: printed }];
    }),
  );
}

/**
 * The first difference of an output from a shape; null when there is none. JSON is compared as
 * JSON: `…` is any value, any further entries at the end of an object or a list, and any characters
 * in a string. Other text must be a line of the output.
 */
export function mismatch(expected: string, output: string): string | null {
  if (!expected.startsWith("{"))
    return output.split("\n").includes(expected) ? null : `no line "${expected}"`;
  const shape = expected
    .replaceAll(/:…/g, ':"…"')
    .replaceAll(/,?…}/g, (text) => `${text.startsWith(",") ? "," : ""}"…":0}`)
    .replaceAll(/,?…\]/g, (text) => `${text.startsWith(",") ? "," : ""}"…"]`);
  let actual: unknown;
  try {
    actual = JSON.parse(output);
  } catch {
    return "no JSON";
  }
  return differ(JSON.parse(shape), actual, "answer");
}

function differ(expected: unknown, actual: unknown, path: string): string | null {
  const wrong = `${path} is ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`;
  if (typeof expected === "string") {
    if (expected === "…") return actual === undefined ? wrong : null;
    const pattern = expected.split("…").map(RegExp.escape).join(".*");
    return typeof actual === "string" && new RegExp(`^${pattern}$`, "s").test(actual) ? null : wrong;
  }
  if (expected === null || typeof expected !== "object") return Object.is(expected, actual) ? null : wrong;
  if (actual === null || typeof actual !== "object") return wrong;
  if (Array.isArray(expected) !== Array.isArray(actual)) return wrong;
  const isOpen = Array.isArray(expected) ? expected.at(-1) === "…" : "…" in expected;
  const wanted = Object.entries(expected).filter(
    ([key, value]) => key !== "…" && !(isOpen && value === "…" && Array.isArray(expected)),
  );
  for (const [key, value] of wanted) {
    const problem = differ(value, (actual as Record<string, unknown>)[key], `${path}.${key}`);
    if (problem) return problem;
  }
  const more = Object.keys(actual).length - wanted.length;
  return isOpen || more === 0
    ? null
    : `${path} has ${more} more than README shows: ${JSON.stringify(actual)}`;
}
