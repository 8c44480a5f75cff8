import { AppError } from "../../core/errors.ts";
import type { LoadMonitor } from "../../resilience/load-level.ts";
import type { ReadGuard } from "../../resilience/read-guard.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { LoadShedding } from "../router.ts";

const RETRY_AFTER_SECONDS = 2;

export function createLoadShedding(
  load: LoadMonitor,
  readGuard: Pick<ReadGuard, "giveWay">,
  metrics: Metrics,
): LoadShedding {
  const refuse = (priority: string): AppError => {
    metrics.requestsShed.inc({ priority });
    return new AppError("overloaded", "The server is overloaded; requests of this priority must wait.", {
      retryAfterSeconds: RETRY_AFTER_SECONDS,
    });
  };
  return {
    admit(tenantId, priority) {
      // A read that was let in at a lower level, and still waits, is not served while a higher one
      // is refused.
      if (load.refuses(priority) && !readGuard.giveWay(tenantId, priority)) throw refuse(priority);
      return load.begin();
    },
    admitIngest() {
      if (load.atLeast("refuse_all")) throw refuse("ingest");
    },
  };
}
