import { existsSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { stopLeftovers } from "../app.ts";
import { lockOrRefuse } from "../lock.ts";
import { say } from "../messages.ts";
import { type ClusterName, homeOf, stopPrivatePostgres } from "../postgres/private.ts";
import { stopPrivateRedis } from "../private-redis.ts";
import { inState } from "../state.ts";

const CLUSTERS: ClusterName[] = ["postgres", "test-postgres"];

/** Stops every process that any `./dev` of this checkout left running, and deletes all data. */
export async function clean(): Promise<number> {
  lockOrRefuse("up", "./dev up is running in this checkout: stop it first");
  lockOrRefuse("test", "./dev test is running in this checkout: stop it first");
  say("stopping what ./dev started, and deleting .footfall");
  await stopLeftovers();
  await stopPrivateRedis();
  for (const name of CLUSTERS) await stopPrivatePostgres(name);
  for (const name of CLUSTERS) {
    const home = homeOf(name);
    if (home === inState(name)) continue;
    rmSync(home, { recursive: true, force: true });
    // The other cluster may be there, too.
    if (existsSync(dirname(home))) rmSync(dirname(home), { recursive: true });
  }
  rmSync(inState("."), { recursive: true, force: true });
  return 0;
}
