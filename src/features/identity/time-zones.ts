import { isTimeZone } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import { createSemaphore } from "../../core/semaphore.ts";
import type { Sql } from "../../db/client.ts";
import { findZoneFault, type ZoneFault } from "../../db/time-zones.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";

/**
 * Postgres counts days and the runtime names them, so a zone is used only if both have the same
 * clock for it.
 */
export interface TimeZones {
  /**
   * Null when the zone can be used. Synchronous for a zone that was asked for in the last minutes.
   */
  findFault(name: string): Promise<ZoneFault | null> | ZoneFault | null;
  /** Throws `invalid_input` with the reason for a zone that can't be used. */
  require(name: string): Promise<void>;
}

/** Time zone data of a Postgres that runs on changes with a package update. */
const REMEMBER_MS = 600_000;
/**
 * A comparison costs Postgres milliseconds. However many zones are asked for, they take one
 * connection at most.
 */
const LOOKS_AT_ONCE = 1;

/** As many zones are remembered as the runtime knows. */
export function createTimeZones(sql: Sql, guard: Pick<ReadGuard, "lookUp">): TimeZones {
  const remembered = new Map<string, { fault: ZoneFault | null; untilMs: number }>();
  const looking = new Map<string, Promise<ZoneFault | null>>();
  const looks = createSemaphore(LOOKS_AT_ONCE, Number.POSITIVE_INFINITY);

  async function look(name: string, key: string): Promise<ZoneFault | null> {
    const fault = await looks.run(() => guard.lookUp(() => findZoneFault(sql, name)));
    remembered.set(key, { fault, untilMs: Date.now() + REMEMBER_MS });
    return fault;
  }

  /** All who ask share one look. */
  function startLook(name: string, key: string): Promise<ZoneFault | null> {
    const running = looking.get(key);
    if (running) return running;
    const started = look(name, key).finally(() => looking.delete(key));
    looking.set(key, started);
    return started;
  }

  function findFault(name: string): Promise<ZoneFault | null> | ZoneFault | null {
    const key = name.toLowerCase();
    const known = remembered.get(key);
    if (known && known.untilMs > Date.now()) return known.fault;
    if (!isTimeZone(name))
      return {
        code: "unknown_time_zone",
        message: `"${name}" is a time zone that this server does not know.`,
      };
    const fresh = startLook(name, key);
    if (known?.fault !== null) return fresh;
    // A zone that was good stays good until the comparison ends. Nobody waits for it, nor for a
    // Postgres that is away.
    fresh.catch(() => {});
    return null;
  }

  return {
    findFault,
    async require(name) {
      const fault = await findFault(name);
      if (fault) throw unusableZone(fault);
    },
  };
}

export function unusableZone({ code, message }: ZoneFault): AppError {
  return new AppError("invalid_input", message, { errors: [{ path: "timeZone", code, message }] });
}
