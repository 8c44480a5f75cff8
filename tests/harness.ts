/**
 * What test files use: real servers and real processes, each test file with its own. Everything
 * started here is undone by cleanup() in afterAll.
 */
export { cleanup, onCleanup } from "../scripts/cleanup.ts";
export { guarded, trackProcess } from "../scripts/processes.ts";
export { programCommand } from "../scripts/program.ts";
export { eventually, freePort } from "../scripts/waiting.ts";
export {
  createTestDatabase,
  migrate,
  startPostgres,
  type TestDatabase,
  type TestPostgres,
} from "./postgres.ts";
export {
  type Environment,
  type FootfallProcess,
  runFootfall,
  spawnFootfall,
  startServer,
  startWorker,
  testEnv,
} from "./process.ts";
export { startRedis, type TestRedis } from "./redis.ts";
export { temporaryDirectory } from "./temporary-directory.ts";
