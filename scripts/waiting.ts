const FIRST_PORT = 20_000;
const PORTS = 12_000;

/**
 * A free TCP port on 127.0.0.1. It is below the range that kernels use for outgoing connections
 * (from 32768), so a server that is stopped and started again finds its port free.
 */
export function freePort(): number {
  for (let tries = 0; tries < 100; tries++) {
    const port = FIRST_PORT + Math.floor(Math.random() * PORTS);
    if (isPortFree(port)) return port;
  }
  throw new Error(`No free port between ${FIRST_PORT} and ${FIRST_PORT + PORTS}.`);
}

/** Whether a server could listen there now. */
export function isPortFree(port: number, hostname = "127.0.0.1"): boolean {
  try {
    Bun.listen({ hostname, port, socket: { data() {} } }).stop(true);
    return true;
  } catch {
    return false;
  }
}

/** `preferred` while it is free, else the first free port from `first` on. */
export function freePortFrom(first: number, preferred: number | null = null, hostname?: string): number {
  const isUsual = preferred !== null && preferred >= 1_024 && preferred <= 65_535;
  if (isUsual && isPortFree(preferred, hostname)) return preferred;
  let port = first;
  while (port <= 65_535 && !isPortFree(port, hostname)) port += 1;
  return port;
}

export interface Patience {
  timeoutMs?: number;
  intervalMs?: number;
}

/**
 * Polls until `check` neither throws nor returns false or null, and returns what it returned. A
 * check of `expect` calls returns nothing, so undefined is success. Throws the last error when the
 * time is up.
 */
export async function eventually<T>(
  check: () => T | Promise<T>,
  { timeoutMs = 10_000, intervalMs = 50 }: Patience = {},
): Promise<Exclude<T, false | null>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let failure: unknown;
    try {
      const result = await check();
      if (result !== false && result !== null) return result as Exclude<T, false | null>;
      failure = new Error(`The check still returned ${String(result)} after ${timeoutMs} ms.`);
    } catch (error) {
      failure = error;
    }
    if (performance.now() >= deadline) throw failure;
    await Bun.sleep(intervalMs);
  }
}
