import { afterAll } from "bun:test";
import { killLeftovers } from "../scripts/processes.ts";

// Runs after the last hook of every test file. A file that forgot cleanup() is told so, and the next one starts clean.
afterAll(() => {
  const pids = killLeftovers();
  if (pids.length > 0)
    console.error(`killed ${pids.length} leftover process(es): call cleanup() in afterAll`);
});
