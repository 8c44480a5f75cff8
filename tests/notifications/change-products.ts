import { expect } from "bun:test";
import type { Random } from "../../src/features/seeding/random.ts";
import { onCleanup } from "../harness.ts";

/**
 * Clients that change the products of a tenant over HTTP, whatever happens to the server, and know
 * which changes were committed. Each has products of its own, and asks again until an answer tells
 * what came of a change.
 */
export interface Changes {
  /** Product events that the committed changes must have left. */
  expected(): number;
  /** Requests without an answer, and those that a repeated request found done. */
  readonly uncertain: { unanswered: number; foundDone: number };
  /**
   * Settles when each client knows the outcome of its last change, or when one got an impossible
   * answer.
   */
  finished: Promise<void>;
  stop(): void;
}

interface Server {
  url: string;
}

interface Own {
  id: string;
  /** 0: not created yet. Every change makes the next one. */
  version: number;
  deleted: boolean;
  quantity: number;
}

const CLIENTS = 8;
const PRODUCTS_EACH = 13;
/** The tenant's. */
const LOW_STOCK = 5;
const PAUSE_MS = 15;
/** A killed server's sockets are closed; a paused Redis costs its command timeouts. */
const ANSWER_MS = 8_000;

export function startChanges(server: () => Server, key: string, rngOf: (n: number) => Random): Changes {
  const uncertain = { unanswered: 0, foundDone: 0 };
  let running = true;
  let committed = 0;

  /**
   * Asks until an answer is no failure of the server; says whether an earlier try had no answer.
   */
  async function ask(method: string, path: string, headers: Record<string, string>, body?: object) {
    for (let again = false; ; again = true) {
      const response = await fetch(server().url + path, {
        method,
        headers: {
          authorization: `Bearer ${key}`,
          ...(body && { "content-type": "application/json" }),
          ...headers,
        },
        ...(body && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(ANSWER_MS),
      })
        .then(async (answer) => ({ status: answer.status, text: await answer.text() }))
        .catch(() => null);
      if (response && response.status < 500) return { ...response, again };
      uncertain.unanswered += 1;
      await Bun.sleep(50);
    }
  }

  async function create(own: Own): Promise<void> {
    const body = { id: own.id, name: own.id, price: 1, quantity: own.quantity };
    const { status, text } = await ask("POST", "/products", { "idempotency-key": own.id }, body);
    expect(status, text).toBe(201);
    own.version = 1;
    committed += 1;
  }

  /**
   * A change of the version that the client knows. If asking again is refused as outdated, the
   * earlier try was done.
   */
  async function change(own: Own, method: "PATCH" | "DELETE", done: number, body?: object): Promise<void> {
    const { status, again, text } = await ask(
      method,
      `/products/${own.id}`,
      { "if-match": `"${own.version}"` },
      body,
    );
    if (again && (status === 412 || status === 404)) uncertain.foundDone += 1;
    else expect(status, text).toBe(done);
    own.version += 1;
    committed += 1;
  }

  async function patch(own: Own, quantity: number, price: number): Promise<void> {
    await change(own, "PATCH", 200, { quantity, price });
    if (own.quantity > LOW_STOCK && quantity <= LOW_STOCK) committed += 1;
    own.quantity = quantity;
  }

  /** Refused, so it must leave no event. */
  async function patchOutdated(own: Own): Promise<void> {
    const outdated = { "if-match": `"${own.version + 1_000_000}"` };
    const { status } = await ask("PATCH", `/products/${own.id}`, outdated, { price: 7 });
    expect(status).toBe(412);
  }

  async function restore(own: Own): Promise<void> {
    const { status, text } = await ask("POST", `/products/${own.id}/restore`, {});
    expect(status, text).toBe(200);
    own.version += 1;
    own.deleted = false;
    committed += 1;
    // Read back: what a client believes is what there is.
    const read = await ask("GET", `/products/${own.id}`, {});
    expect(JSON.parse(read.text)).toMatchObject({ version: own.version, quantity: own.quantity });
  }

  async function changeOne(own: Own, random: Random): Promise<void> {
    if (own.version === 0) return create(own);
    if (own.deleted) return restore(own);
    const chance = random.between(0, 19);
    if (chance === 0) {
      await change(own, "DELETE", 204);
      own.deleted = true;
    } else if (chance <= 2) await patchOutdated(own);
    // Another price than the one before, or nothing would change.
    else await patch(own, random.between(0, 2 * LOW_STOCK), own.version + 1);
  }

  const clients = Array.from({ length: CLIENTS }, async (_, client) => {
    const random = rngOf(client);
    const products = Array.from(
      { length: PRODUCTS_EACH },
      (_, n): Own => ({ id: `p-${client}-${n}`, version: 0, deleted: false, quantity: 10 }),
    );
    while (running) {
      const own = products[random.between(0, products.length - 1)];
      if (own) await changeOne(own, random);
      await Bun.sleep(random.between(0, PAUSE_MS));
    }
  });
  const stop = () => {
    running = false;
  };
  onCleanup(stop);
  const finished = Promise.all(clients).then(() => {});
  // Awaited much later. Until then a failure must not end the test run.
  finished.catch(() => {});
  return { expected: () => committed, uncertain, finished, stop };
}
