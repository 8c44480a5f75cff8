import type { Config } from "../src/config.ts";
import { newId } from "../src/core/ids.ts";
import { closeDeps, createDeps, type Deps } from "../src/deps.ts";
import { createOrderConsumer } from "./consumers/orders.ts";
import { createRollupConsumer } from "./consumers/rollup.ts";
import { createHeartbeat } from "./jobs/heartbeat.ts";
import { createHousekeeping } from "./jobs/housekeeping.ts";
import { createOrderSweeper } from "./jobs/order-sweeper.ts";
import { createPartitionKeeper } from "./jobs/partitions.ts";
import { createSweeper } from "./jobs/sweeper.ts";
import { createRunner, type Runner } from "./runner.ts";

/** The worker process: a member of each consumer group and the periodic jobs. Run as many as you like. */
export async function startWorker(config: Config, shared?: Deps): Promise<Runner> {
  const deps = shared ?? createDeps(config, "worker");
  const name = `${process.pid}-${newId().slice(-8)}`;
  const runner = createRunner(deps, name, [
    createRollupConsumer(deps, name),
    createSweeper(deps, name),
    createOrderConsumer(deps, name),
    createOrderSweeper(deps, name),
    createHeartbeat(deps, name),
    createPartitionKeeper(deps, name),
    createHousekeeping(deps, name),
  ]);
  runner.start();
  deps.log.info({ name }, "worker started");
  return {
    start: runner.start,
    async stop() {
      await runner.stop();
      if (!shared) await closeDeps(deps, config.shutdownGraceMs);
      deps.log.info({ name }, "worker stopped");
    },
  };
}
