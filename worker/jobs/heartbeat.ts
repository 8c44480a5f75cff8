import type { Deps } from "../../src/deps.ts";
import { HEARTBEAT_MS } from "../../src/features/orders/index.ts";
import type { Runner } from "../runner.ts";

/**
 * Tells administrators that this worker lives and what it has under way. It removes its row when it
 * stops.
 */
export function createHeartbeat({ orderQueue, orderHandling, log }: Deps, name: string): Runner {
  const startedAt = new Date().toISOString();
  let timer: Timer | undefined;
  let beating: Promise<void> = Promise.resolve();

  async function beat(): Promise<void> {
    try {
      await orderQueue.beat({ name, startedAt, inFlight: orderHandling.inFlight() });
    } catch (error) {
      log.debug({ error: String(error) }, "heartbeat failed");
    }
  }

  return {
    start() {
      beating = beat();
      timer = setInterval(() => {
        beating = beat();
      }, HEARTBEAT_MS);
    },
    async stop() {
      clearInterval(timer);
      await beating;
      await orderQueue
        .leave(name)
        .catch((error) => log.debug({ error: String(error) }, "heartbeat row was not taken away"));
    },
  };
}
