import type { Config } from "../src/config.ts";
import { newId } from "../src/core/ids.ts";
import { closeDeps, createDeps, type Deps } from "../src/deps.ts";
import { createNotificationConsumer, createWebhookConsumer } from "./consumers/domain-events.ts";
import { createOrderConsumer } from "./consumers/orders.ts";
import { createRollupConsumer } from "./consumers/rollup.ts";
import { createHeartbeat } from "./jobs/heartbeat.ts";
import { createHousekeeping } from "./jobs/housekeeping.ts";
import { createOrderSweeper } from "./jobs/order-sweeper.ts";
import { createPartitionKeeper } from "./jobs/partitions.ts";
import { createProductImportJob } from "./jobs/product-imports.ts";
import { createPropertyFilling } from "./jobs/property-fills.ts";
import { createRelay } from "./jobs/relay.ts";
import { createReturnsFolding } from "./jobs/returns-folder.ts";
import { createRollupRetrying } from "./jobs/rollup-retries.ts";
import { createSweeper } from "./jobs/sweeper.ts";
import { createWebhookDeliverer } from "./jobs/webhook-deliveries.ts";
import { createRunner, type Runner } from "./runner.ts";

/**
 * The worker process: a member of each consumer group, the relay and the periodic jobs. Run as many
 * as you like.
 */
export async function startWorker(config: Config, shared?: Deps): Promise<Runner> {
  const deps = shared ?? createDeps(config, "worker");
  const name = `${process.pid}-${newId().slice(-8)}`;
  const runner = createRunner(deps, name, [
    createRollupConsumer(deps, name),
    createNotificationConsumer(deps, name),
    createWebhookConsumer(deps, name),
    createWebhookDeliverer(deps),
    createSweeper(deps, name),
    createRollupRetrying(deps, name),
    createRelay(deps),
    createOrderConsumer(deps, name),
    createOrderSweeper(deps, name),
    createHeartbeat(deps, name),
    createPartitionKeeper(deps, name),
    createProductImportJob(deps, name),
    createReturnsFolding(deps, name),
    createPropertyFilling(deps, name),
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
