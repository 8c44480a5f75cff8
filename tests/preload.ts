import { afterAll } from "bun:test";
import { killLeftovers } from "../scripts/processes.ts";

// Runs after the last hook of every test file. Reports a file that forgot cleanup(), so the next
// one starts clean.
afterAll(() => {
  const pids = killLeftovers();
  if (pids.length > 0)
    console.error(`killed ${pids.length} leftover process(es): call cleanup() in afterAll`);
});
