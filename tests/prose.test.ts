/**
 * Markdown and comments: what they name exists, lines and paragraphs are short. Part of
 * `./dev check`; reads files only. What it can't prove: that a sentence is true, or that a name in
 * backticks means the thing of that name. A single lower-case word counts as English and is not
 * checked.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";

const ROOT = join(import.meta.dir, "..");
const MAX_WORDS = 80;
const MAX_COLUMNS = 100;
const MAX_COMMENT_LINES = 8;

const FOLDERS = ["src", "worker", "scripts", "tests", "bench", "drizzle", "docker", "docs", "patches", ".ci"];
/** Made by a build or a run, so they need not be there. */
const MADE = /^(dist|\.footfall|node_modules)\//;

function filesBelow(folder: string): string[] {
  const entries = readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true });
  return entries
    .filter((one) => one.isFile())
    .map((one) => join(one.parentPath, one.name).slice(ROOT.length + 1));
}

const files = [
  ...FOLDERS.filter((folder) => existsSync(join(ROOT, folder))).flatMap(filesBelow),
  ...readdirSync(ROOT, { withFileTypes: true }).flatMap((one) => (one.isFile() ? [one.name] : [])),
];
const baseNames = new Set(files.map((file) => file.slice(file.lastIndexOf("/") + 1)));
const read = (file: string) => Bun.file(join(ROOT, file)).text();

const documents = new Map<string, string>();
for (const file of files.filter((one) => one.endsWith(".md"))) documents.set(file, await read(file));

/**
 * Every word of the code, of settings and of SQL. A symbol that is not among them does not exist.
 */
const words = new Set<string>();
for (const file of files) {
  const isCode =
    /\.(tsx?|sql|json|yaml|patch)$|^(dev|\.env\.example)$/.test(file) && !file.startsWith("drizzle/meta/");
  if (!isCode || file === "tests/prose.test.ts") continue;
  // A comment may name what is gone.
  const text = (await read(file)).replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  for (const [word] of text.matchAll(/[\w$]+/g)) words.add(word);
}

interface Block {
  line: number;
  text: string;
}

/** Paragraphs and items of lists; no tables, headings or fenced blocks. */
function paragraphsOf(text: string): Block[] {
  const found: Block[] = [];
  let open: Block | null = null;
  let fenced = false;
  for (const [index, line] of text.split("\n").entries()) {
    const fence = /^\s*```/.test(line);
    if (fence) fenced = !fenced;
    const outside = fence || fenced || line.trim() === "" || /^\s*(\||#|<!--)/.test(line);
    if (outside) open = null;
    else if (open === null || /^\s*([-*]|\d+\.)\s/.test(line)) {
      open = { line: index + 1, text: line };
      found.push(open);
    } else open.text += `\n${line}`;
  }
  return found;
}

/** What stands in backticks, outside of fenced blocks. */
function namesOf(text: string): Block[] {
  let fenced = false;
  const blanked = text.split("\n").map((line) => {
    const fence = /^\s*```/.test(line);
    if (fence) fenced = !fenced;
    return fence || fenced ? "" : line;
  });
  return [...blanked.join("\n").matchAll(/`([^`]+)`/g)].map((match) => ({
    line: blanked.join("\n").slice(0, match.index).split("\n").length,
    text: (match[1] ?? "").replaceAll("\n", " "),
  }));
}

const PATH = /^[\w.@-]+(\/[\w.@-]+)*\.(tsx?|sql|json|md|yaml|toml|sh|patch)$|^[\w.-]+(\/[\w.-]+)*\/$/;
const STARTS_IN_A_FOLDER = new RegExp(
  `^(${FOLDERS.map((one) => one.replace(".", "\\.")).join("|")})/[\\w./@-]*$`,
);
/** Names that only code has: several words in one, or a setting. */
const SYMBOL =
  /^(?:[a-z$_][a-z0-9]*[A-Z][\w$]*|[A-Z][a-z0-9]+[A-Z]\w*|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:\(\))?$/;

/**
 * A path from the root, from the document's folder, or the name of a file that stands somewhere.
 */
function pathExists(document: string, path: string): boolean {
  if (MADE.test(path)) return true;
  if (!path.includes("/")) return baseNames.has(path);
  return existsSync(join(ROOT, path)) || existsSync(join(ROOT, dirname(document), path));
}

function problemOf(document: string, name: string): string | null {
  if (PATH.test(name) || STARTS_IN_A_FOLDER.test(name))
    return pathExists(document, name) ? null : `no file or folder ${name}`;
  if (SYMBOL.test(name) && !words.has(name.replace("()", ""))) return `no symbol ${name} in the code`;
  return null;
}

function expectNone(offences: readonly string[], remedy: string): void {
  expect(offences, remedy).toEqual([]);
}

describe("Markdown", () => {
  test("names files and symbols that exist", () => {
    const offences = [...documents].flatMap(([file, text]) =>
      namesOf(text).flatMap(({ line, text: name }) => {
        const problem = problemOf(file, name);
        return problem ? [`${file}:${line}: ${problem}`] : [];
      }),
    );
    expectNone(offences, "Name what is there now: a path from the root, or a word of the code.");
  });

  test("links to files that exist", () => {
    const offences = [...documents].flatMap(([file, text]) =>
      [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].flatMap(([, target = ""]) =>
        existsSync(join(ROOT, dirname(file), target)) ? [] : [`${file}: ${target}`],
      ),
    );
    expectNone(offences, "Links are relative to the file that has them.");
  });

  test(`has paragraphs of at most ${MAX_WORDS} words`, () => {
    const offences = [...documents].flatMap(([file, text]) =>
      paragraphsOf(text).flatMap(({ line, text: paragraph }) => {
        const count = paragraph.split(/\s+/).length;
        return count > MAX_WORDS ? [`${file}:${line}: ${count} words`] : [];
      }),
    );
    expectNone(offences, "Make it two paragraphs, a list or a table.");
  });

  test("of docs/ is all in docs/README.md", () => {
    const listed = documents.get("docs/README.md") ?? "";
    const unlisted = [...documents.keys()].filter((file) => {
      const name = /^docs\/(.+)$/.exec(file)?.[1];
      return name !== undefined && name !== "README.md" && !listed.includes(`](${name})`);
    });
    expectNone(unlisted, "Give the file a row in docs/README.md.");
  });
});

/**
 * Comments that have lines of their own: blocks, and runs of lines that begin with `//`, `--` or
 * `#`.
 */
function commentsOf(file: string, text: string): { line: number; lines: string[] }[] {
  const isScript = /\.(tsx?|mjs)$/.test(file);
  const start = isScript ? /^\s*(\/\*\*?|\/\/)/ : file.endsWith(".sql") ? /^\s*--(?!>)/ : /^\s*#(?!!)/;
  const found: { line: number; lines: string[] }[] = [];
  let open: string[] | null = null;
  let inBlock = false;
  for (const [index, line] of text.split("\n").entries()) {
    const begins = !inBlock && start.test(line);
    if (begins && /^\s*\/\*/.test(line)) inBlock = true;
    if (inBlock || begins) {
      if (open === null || /^\s*\/\*/.test(line)) {
        open = [];
        found.push({ line: index + 1, lines: open });
      }
      open.push(line);
      if (line.includes("*/")) {
        inBlock = false;
        open = null;
      }
    } else open = null;
  }
  return found;
}

const comments = new Map(
  await Promise.all(
    files
      .filter((file) =>
        /\.(tsx?|mjs|sql|py|sh|yaml|toml|conf)$|^(dev|docker\/Dockerfile|\.ci\/run|\.env\.example)$/.test(
          file,
        ),
      )
      .map(async (file) => [file, commentsOf(file, await read(file))] as const),
  ),
);

describe("Comments", () => {
  test(`end at column ${MAX_COLUMNS}`, () => {
    const offences = [...comments].flatMap(([file, blocks]) =>
      blocks.flatMap(({ line, lines }) =>
        lines.flatMap((text, n) =>
          text.length > MAX_COLUMNS ? [`${file}:${line + n}: ${text.length} columns`] : [],
        ),
      ),
    );
    expectNone(offences, "Wrap the comment, and see whether it can be said in fewer words.");
  });

  test(`have at most ${MAX_COMMENT_LINES} lines`, () => {
    const offences = [...comments].flatMap(([file, blocks]) =>
      blocks.flatMap(({ line, lines }) => {
        const count = lines.filter((text) => /\w/.test(text)).length;
        return count > MAX_COMMENT_LINES ? [`${file}:${line}: ${count} lines`] : [];
      }),
    );
    expectNone(offences, "Say why in three lines, and move the rest to a file of docs/.");
  });

  test("name documents that exist", () => {
    const offences = [...comments].flatMap(([file, blocks]) =>
      blocks.flatMap(({ line, lines }) =>
        [...lines.join("\n").matchAll(/\bdocs\/[\w-]+\.md/g)].flatMap(([path]) =>
          documents.has(path) ? [] : [`${file}:${line}: ${path}`],
        ),
      ),
    );
    expectNone(offences, "docs/README.md lists the documents.");
  });
});
