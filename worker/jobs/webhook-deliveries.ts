import type { Deps } from "../../src/deps.ts";
import type { ClaimedDelivery } from "../../src/features/webhooks/index.ts";
import type { Runner } from "../runner.ts";

/**
 * Sends due deliveries, on every worker. It claims as many as it has free slots and begins them at
 * once, so a slow receiver holds its own slots only. Endpoints whose last attempt failed have slots
 * of their own, one each: however many hang, the others are served. Tenants take turns, and none
 * has all the slots.
 */
export interface WebhookDeliverer extends Runner {
  /** Claims once and waits for what it sends; returns how many that were. */
  runOnce(): Promise<number>;
}

/** The slots that a tenant may not have are free at once for others while its endpoints hang. */
const LANES = [
  { failing: false, slots: 64, slotsPerTenant: 48, slotsPerEndpoint: 4 },
  { failing: true, slots: 24, slotsPerTenant: 16, slotsPerEndpoint: 1 },
] as const;
const POLL_MS = 500;
const MEASURE_EVERY_MS = 15_000;
/** How long a stopping worker waits for answers; what is cut off is sent again after its lease. */
const STOP_GRACE_MS = 5_000;

type Lane = (typeof LANES)[number];

interface Sending {
  delivery: ClaimedDelivery;
  lane: Lane;
  finished: Promise<void>;
}

export function createWebhookDeliverer({ webhookDeliveries, log }: Deps): WebhookDeliverer {
  const sendings = new Set<Sending>();
  const cutOff = new AbortController();
  let running = false;
  let loop: Promise<void> = Promise.resolve();
  let wake = () => {};
  let measuredAt = 0;

  /** Endpoints that are being sent to, whichever lane they were in when it began. */
  function busyEndpoints(lane: Lane) {
    const busy = new Map<string, { tenantId: string; endpointId: string; count: number; inLane: number }>();
    for (const sending of sendings) {
      const { tenantId, endpointId } = sending.delivery;
      const entry = busy.get(endpointId) ?? { tenantId, endpointId, count: 0, inLane: 0 };
      entry.count += 1;
      if (sending.lane === lane) entry.inLane += 1;
      busy.set(endpointId, entry);
    }
    return [...busy.values()];
  }

  function begin(delivery: ClaimedDelivery, lane: Lane): void {
    const work = webhookDeliveries
      .attempt(delivery, cutOff.signal)
      .catch((error) =>
        log.warn({ error: String(error) }, "outcome of a webhook not recorded, it is sent again"),
      );
    const sending: Sending = { delivery, lane, finished: work };
    sending.finished = work.then(() => {
      sendings.delete(sending);
      wake();
    });
    sendings.add(sending);
  }

  async function fill(): Promise<number> {
    if (!(await webhookDeliveries.hasDue())) return 0;
    let begun = 0;
    for (const lane of LANES) {
      const slots = lane.slots - [...sendings].filter((sending) => sending.lane === lane).length;
      if (slots === 0) continue;
      const claimed = await webhookDeliveries.claim({ ...lane, slots, busy: busyEndpoints(lane) });
      for (const delivery of claimed) begin(delivery, lane);
      begun += claimed.length;
    }
    return begun;
  }

  async function measure(): Promise<void> {
    if (Date.now() - measuredAt < MEASURE_EVERY_MS) return;
    measuredAt = Date.now();
    await webhookDeliveries.measureDue();
  }

  async function run(): Promise<void> {
    while (running) {
      // A slot that comes free, also while this claims, begins the next round at once.
      const rest = Promise.withResolvers<void>();
      wake = rest.resolve;
      const timer = setTimeout(rest.resolve, POLL_MS);
      try {
        await fill();
        await measure();
      } catch (error) {
        log.warn({ error: String(error) }, "webhooks could not be claimed, trying again");
      }
      if (running) await rest.promise;
      clearTimeout(timer);
    }
  }

  async function settle(): Promise<void> {
    await Promise.all([...sendings].map((sending) => sending.finished));
  }

  return {
    start() {
      running = true;
      loop = run();
    },
    async stop() {
      running = false;
      wake();
      await loop;
      const timer = setTimeout(() => cutOff.abort(), STOP_GRACE_MS);
      await settle();
      clearTimeout(timer);
    },
    async runOnce() {
      const begun = await fill();
      await settle();
      return begun;
    },
  };
}
