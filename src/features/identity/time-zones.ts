import { isTimeZone } from "../../core/days.ts";
import { AppError } from "../../core/errors.ts";
import { createSemaphore } from "../../core/semaphore.ts";
import type { Sql } from "../../db/client.ts";
import { findZoneFault, type ZoneFault } from "../../db/time-zones.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";

/** Days are counted by Postgres and named by the runtime, so a zone is used only if both have the same clock for it. */
export interface TimeZones {
  /** Null when the zone can be used. At hand at once for a zone that was asked for in the last minutes. */
  findFault(name: string): Promise<ZoneFault | null> | ZoneFault | null;
  /** Throws `invalid_input` with the reason for a zone that can't be used. */
  require(name: string): Promise<void>;
}

/** Time zone data of a Postgres that runs on changes with a package update. */
const REMEMBER_MS = 600_000;
/** Each look costs Postgres milliseconds: whoever asks for all zones there are has one connection at the most. */
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
    // A zone that was good is so until the look says otherwise: nobody waits for it, nor for a Postgres that is away.
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
