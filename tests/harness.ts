/**
 * What test files use: real servers and real processes, each test file with its own. Everything started here is undone
 * by cleanup() in afterAll.
 */
export { cleanup, onCleanup, temporaryDirectory } from "./cleanup.ts";
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
export { eventually, freePort } from "./waiting.ts";
