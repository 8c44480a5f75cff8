/**
 * Who may import whom (ranks, no circles, entrances of the features), where the environment is
 * read, and that the migrations are complete. Reads the source, needs no database, and is part of
 * `bun run check`. CONTRIBUTING.md says what it can't prove.
 */
import { describe, expect, test } from "bun:test";
import { dirname, join, normalize } from "node:path";
import { MIGRATION_FILES, MIGRATION_JOURNAL } from "../src/db/migrations.ts";

const ROOT = join(import.meta.dir, "..");

interface Import {
  /** The importing file and its target, relative to the root; a package keeps its name. */
  from: string;
  to: string;
  typeOnly: boolean;
}

const sources = new Map<string, string>();
for (const folder of ["src", "worker", "scripts"]) {
  for (const path of new Bun.Glob("**/*.{ts,tsx}").scanSync(join(ROOT, folder))) {
    if (!path.endsWith(".d.ts"))
      sources.set(`${folder}/${path}`, await Bun.file(join(ROOT, folder, path)).text());
  }
}

const STATEMENT = /^(?:import|export)\s+(type\s)?([\w*{][^"';]*?\sfrom\s+)?"([^"]+)"/gm;
const DYNAMIC = /\bimport\(\s*"([^"]+)"/g;

function importsOf(file: string, text: string): Import[] {
  const resolve = (specifier: string) =>
    specifier.startsWith(".") ? normalize(join(dirname(file), specifier)) : specifier;
  const found: Import[] = [];
  for (const [, typeWord, clause = "", specifier = ""] of text.matchAll(STATEMENT)) {
    const names = /^\{([^}]*)\}/.exec(clause)?.[1]?.split(",") ?? [];
    const allTypes = names.length > 0 && names.every((name) => /^\s*(type\s|$)/.test(name));
    found.push({ from: file, to: resolve(specifier), typeOnly: typeWord !== undefined || allTypes });
  }
  for (const [, specifier = ""] of text.matchAll(DYNAMIC))
    found.push({ from: file, to: resolve(specifier), typeOnly: false });
  return found;
}

const imports = [...sources].flatMap(([file, text]) => importsOf(file, text));
const inside = imports.filter(({ to }) => sources.has(to));

/**
 * A feature's `schema.ts`, a part of it that outgrew one file (`answer-schema.ts`), or its
 * `examples.ts`.
 */
const isSchema = (file: string) => /^src\/features\/.*[/-](schema|examples)\.ts$/.test(file);

/** Fails with every offence and with what to do about it. */
function expectNone(offences: readonly (Import | string)[], remedy: string): void {
  const lines = offences.map((one) => (typeof one === "string" ? one : `${one.from} imports ${one.to}`));
  if (lines.length > 0) throw new Error(`${lines.join("\n")}\n${remedy}`);
}

const RANKS: [RegExp, number][] = [
  [/^src\/core\//, 0],
  [/^src\/(config\.ts|version\.ts|telemetry\/)/, 1],
  [/^src\/(resilience|redis|db|mail)\//, 2],
  [/^src\/(cache|streams|http)\//, 3],
  [/^src\/features\//, 4],
  [/^src\/(deps|app)\.ts$/, 5],
  [/^src\/(main|cli)\.ts$|^src\/(commands|dashboard)\/|^worker\//, 6],
  // The code of ./dev. Tests and bench use it as well, the product does not.
  [/^scripts\//, 7],
];

/** A feature may use the index.ts of those before it. */
const FEATURES = [
  "audit",
  "idempotency",
  "outbox",
  "identity",
  "products",
  "catalogue-import",
  "events",
  "rollups",
  "analytics",
  "caching",
  "orders",
  "queue",
  "notifications",
  "webhooks",
  "archive",
  "importing",
  "seeding",
  "system",
];

const RESPONSES = "src/http/responses.ts";

function rankOf(file: string): number {
  // zod's schema of an instant and the like: a leaf without Hono, which schemas and routes share.
  if (file === RESPONSES) return 3;
  return RANKS.find(([pattern]) => pattern.test(file))?.[1] ?? Number.NaN;
}

const featureOf = (file: string) => /^src\/features\/([^/]+)\//.exec(file)?.[1];
const folderOf = (file: string) => file.split("/").slice(0, 2).join("/");
const isHono = (name: string) => /^(hono|@hono\/[^/]+)(\/|$)/.test(name);

/** Everything that is loaded with `starts`; imports of types load nothing. */
function loadedBy(starts: readonly string[]): Map<string, string> {
  const via = new Map(starts.map((start) => [start, "itself"]));
  for (const file of via.keys()) {
    for (const { to, typeOnly } of imports.filter((one) => one.from === file))
      if (!typeOnly && !via.has(to)) via.set(to, file);
  }
  return via;
}

describe("imports", () => {
  test("are all seen by this test", () => {
    const transpilers = {
      ts: new Bun.Transpiler({ loader: "ts" }),
      tsx: new Bun.Transpiler({ loader: "tsx" }),
    };
    const unseen = [...sources].flatMap(([file, text]) => {
      const seen = importsOf(file, text).length;
      const transpiler = transpilers[file.endsWith(".tsx") ? "tsx" : "ts"];
      const loaded = transpiler.scanImports(text.replace(/^#!.*/, "")).length;
      return loaded > seen ? [`${file}: Bun sees ${loaded} imports, this test ${seen}`] : [];
    });
    expectNone(
      unseen,
      'Write imports as `import { name } from "./file.ts"`, or teach STATEMENT the new form.',
    );
  });

  test("every file has a rank", () => {
    const unranked = [...sources.keys()].filter((file) => Number.isNaN(rankOf(file)));
    expectNone(
      unranked,
      "Move the file into a folder of the house style, or give its folder a rank in RANKS.",
    );
  });

  test("go down the ranks", () => {
    const upward = inside.filter(({ from, to }) => rankOf(to) > rankOf(from) && !to.startsWith("worker/"));
    expectNone(upward, "Inject what is needed from above (see deps.ts), or move the shared part down.");
  });

  test("cache, streams and http do not know each other", () => {
    const sideways = inside.filter(
      ({ from, to }) => rankOf(from) === 3 && rankOf(to) === 3 && folderOf(from) !== folderOf(to),
    );
    expectNone(sideways, "Pass a function in from deps.ts or app.ts instead.");
  });

  test("form no circle", () => {
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (file: string, path: string[]) => {
      if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
      if (done.has(file) || path.includes(file)) return;
      for (const { to } of inside.filter((one) => one.from === file)) visit(to, [...path, file]);
      done.add(file);
    };
    for (const file of sources.keys()) visit(file, []);
    expectNone(circles, "Move what both need into a third file below them.");
  });

  test("scripts know nothing of the product, which they start as a process", () => {
    const offences = inside.filter(
      ({ from, to }) => from.startsWith("scripts/") && !to.startsWith("scripts/"),
    );
    expectNone(offences, "Ask the program by its command line, or over HTTP.");
  });

  test("src does not import worker, except where the CLI starts one", () => {
    const offences = inside.filter(
      ({ from, to }) =>
        from.startsWith("src/") && to.startsWith("worker/") && from !== "src/commands/processes.ts",
    );
    expectNone(offences, "Move what is needed into src, or send a stream message.");
  });
});

describe("features", () => {
  test("are all listed", () => {
    const unlisted = [...sources.keys()].map(featureOf).filter((name) => name && !FEATURES.includes(name));
    expectNone(
      [...new Set(unlisted)] as string[],
      "Add the feature to FEATURES, after those it builds upon.",
    );
  });

  test("are entered by index.ts only; app.ts alone mounts their routes.ts", () => {
    const offences = inside.filter(({ from, to }) => {
      const feature = featureOf(to);
      if (feature === undefined || feature === featureOf(from)) return false;
      if (to.endsWith("/routes.ts")) return from !== "src/app.ts";
      return to !== `src/features/${feature}/index.ts`;
    });
    expectNone(offences, "Export it from the feature's index.ts and import that.");
  });

  test("build upon those before them only", () => {
    const offences = inside.filter(({ from, to }) => {
      const [user, used] = [featureOf(from), featureOf(to)];
      return user && used && user !== used && FEATURES.indexOf(used) > FEATURES.indexOf(user);
    });
    expectNone(offences, "Announce it by a stream message or an outbox row, or turn the dependency around.");
  });

  test("know HTTP in routes.ts only; schema.ts may borrow the spellings of http/responses.ts", () => {
    const offences = imports.filter(({ from, to }) => {
      if (!featureOf(from) || from.endsWith("/routes.ts")) return false;
      if (isSchema(from) && (to === RESPONSES || to === "@hono/zod-openapi")) return false;
      return to.startsWith("src/http/") || isHono(to);
    });
    expectNone(offences, "Keep transport in routes.ts; pass plain values to the service.");
  });

  test("have schemas that are leaves", () => {
    const offences = inside.filter(
      ({ from, to }) => isSchema(from) && to !== RESPONSES && !to.startsWith("src/core/") && !isSchema(to),
    );
    expectNone(offences, "A schema.ts may import core, other schemas of its feature and http/responses.ts.");
  });

  test("go routes -> index -> service and verbs -> repository", () => {
    const layer = (file: string) => {
      if (file.endsWith("/routes.ts")) return 3;
      if (file.endsWith("/index.ts")) return 2;
      return file.endsWith("repository.ts") ? 0 : 1;
    };
    /**
     * Pure values and expressions that reach no repository, such as a range or a sum, belong to no
     * layer.
     */
    const isPure = (file: string) => {
      const others = [...loadedBy([file]).keys()].filter((one) => featureOf(one) === featureOf(file));
      return others.every((one) => layer(one) === 1);
    };
    const offences = inside.filter(({ from, to }) => {
      if (featureOf(from) === undefined || featureOf(from) !== featureOf(to)) return false;
      if (layer(from) === 3) return layer(to) < 2 && !isSchema(to);
      return layer(to) > layer(from) && !isPure(to);
    });
    expectNone(offences, "Turn the import around, or pass the value as a parameter.");
  });
});

describe("transport", () => {
  test("Hono stays in http, app.ts and the routes", () => {
    const offences = imports.filter(
      ({ from, to }) =>
        isHono(to) &&
        !from.startsWith("src/http/") &&
        !from.startsWith("src/features/") &&
        from !== "src/app.ts",
    );
    expectNone(offences, "Only src/http, src/app.ts and routes.ts speak HTTP.");
  });

  test("the worker never loads it", () => {
    const loaded = loadedBy([...sources.keys()].filter((file) => file.startsWith("worker/")));
    const offences = [...loaded].filter(
      ([file]) =>
        (file.startsWith("src/http/") && file !== RESPONSES) ||
        file.endsWith("/routes.ts") ||
        file === "src/app.ts" ||
        (isHono(file) && file !== "@hono/zod-openapi"),
    );
    expectNone(
      offences.map(([file, via]) => `${file} is loaded by ${via}`),
      "Enter the feature by its index.ts, and keep transport out of what that exports.",
    );
  });

  test("the dashboard takes types only, and main.ts alone embeds it", () => {
    const isDashboard = (file: string) => file.startsWith("src/dashboard/");
    const offences = imports.filter(({ from, to, typeOnly }) =>
      isDashboard(from)
        ? sources.has(to) && !isDashboard(to) && !typeOnly
        : isDashboard(to) && from !== "src/main.ts",
    );
    expectNone(offences, "The dashboard speaks HTTP like everybody else; import types at the most.");
  });
});

/** Source without comments: comments may name what code may not. */
const code = new Map(
  [...sources].map(([file, text]) => [
    file,
    text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/^\s*\/\/.*$/gm, ""),
  ]),
);

describe("files", () => {
  test("only src/config.ts reads the environment, and for ./dev scripts/environment.ts", () => {
    const offences = [...code].filter(
      ([file, text]) =>
        file !== "src/config.ts" &&
        file !== "scripts/environment.ts" &&
        /\b(process|Bun|meta)\??\.env\b|\{[^}]*\benv\b[^}]*\} = process/.test(text),
    );
    expectNone(
      offences.map(([file]) => file),
      "Add the variable to the schema in src/config.ts and pass the Config in.",
    );
  });

  test("delete from no table that the same statement reads", () => {
    const statements = [...code].flatMap(([file, text]) =>
      [...text.matchAll(/`[^`]*`/g)].map(([statement]) => ({ file, statement })),
    );
    const offences = statements.filter(({ statement }) =>
      [...statement.matchAll(/\bdelete from (\w+)/g)].some(([, table]) =>
        new RegExp(`(?<!\\bdelete )\\b(from|join|using) ${table}\\b`).test(statement),
      ),
    );
    expectNone(
      offences.map(({ file, statement }) => `${file}: ${statement}`),
      "Citus shows such a statement other rows than Postgres does; see pruneTable in src/db/prune.ts.",
    );
  });

  test("export names only", () => {
    const offences = [...code].filter(([, text]) => /^export default\b|^export \* from/m.test(text));
    expectNone(
      offences.map(([file]) => file),
      "Give the export a name; name what an index.ts passes on.",
    );
  });

  test("stay below 400 lines", () => {
    const long = [...sources].filter(([, text]) => text.split("\n").length > 400).map(([file]) => file);
    expectNone(long, "Split the file where its parts have different reasons to change.");
  });
});

describe("tables", () => {
  test("are all in docs/tables.md, with who prunes them", async () => {
    const schemas = [...sources].filter(([file]) => file.startsWith("src/db/schema/"));
    const tables = schemas
      .flatMap(([, text]) => [...text.matchAll(/pgTable\(\s*"(\w+)"/g)])
      .map(([, name]) => name);
    const listed = [...(await Bun.file(join(ROOT, "docs/tables.md")).text()).matchAll(/^\| `(\w+)` \|/gm)];
    expect(
      listed.map(([, name]) => name),
      "Give each table a row in docs/tables.md, in alphabetical order.",
    ).toEqual(tables.toSorted());
  });
});

describe("migrations", () => {
  const folder = join(ROOT, "drizzle");

  test("each file travels in the binary, unchanged, and is in the journal", async () => {
    const files: Record<string, string> = {};
    for (const path of new Bun.Glob("*.sql").scanSync(folder))
      files[path.replace(/\.sql$/, "")] = await Bun.file(join(folder, path)).text();
    const remedy = "Import the new file in src/db/migrations.ts (bun run db:generate writes the journal).";
    expect(MIGRATION_FILES, remedy).toEqual(files);
    expect(MIGRATION_JOURNAL.entries.map(({ tag }) => tag).sort(), remedy).toEqual(Object.keys(files).sort());
    const times = MIGRATION_JOURNAL.entries.map(({ when }) => when);
    expect(times, "Migrations run in the order of `when`.").toEqual(times.toSorted((a, b) => a - b));
  });

  test("the newest snapshot is the schema of src/db/schema", async () => {
    const { generateDrizzleJson } = await import("drizzle-kit/api");
    const schema: Record<string, unknown> = {};
    for (const path of new Bun.Glob("*.ts").scanSync(join(ROOT, "src/db/schema")))
      Object.assign(schema, await import(join(ROOT, "src/db/schema", path)));
    const newest = String(MIGRATION_JOURNAL.entries.at(-1)?.idx).padStart(4, "0");
    const snapshot = await Bun.file(join(folder, "meta", `${newest}_snapshot.json`)).json();
    const written = JSON.parse(JSON.stringify(generateDrizzleJson(schema)));
    expect(written.tables, "The schema has changed: `bun run db:generate`.").toEqual(snapshot.tables);
  });
});
