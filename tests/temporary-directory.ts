import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onCleanup } from "../scripts/cleanup.ts";
import { commandLine } from "../scripts/processes.ts";

/**
 * An empty directory, removed by cleanup(). Its name carries our pid, so that the next run can
 * remove what an aborted one left: a Postgres cluster is 40 MB.
 */
export function temporaryDirectory(purpose: string): string {
  const prefix = `footfall-test-${purpose}-`;
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(prefix))) {
    const owner = Number(name.slice(prefix.length).split("-")[0]);
    if (owner > 0 && commandLine(owner) === "")
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
  const directory = mkdtempSync(join(tmpdir(), `${prefix}${process.pid}-`));
  onCleanup(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
