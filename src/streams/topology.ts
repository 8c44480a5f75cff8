import { keys } from "../redis/keys.ts";

/** Which streams exist, who reads them and how far they may grow. */
export interface StreamTopology {
  key: string;
  group: string;
  /** Approximate cap; trimming loses nothing, since every message only announces what is in Postgres. */
  maxLength: number;
}

export const EVENT_BATCHES: StreamTopology = {
  key: keys.stream("event-batches"),
  group: "rollup",
  maxLength: 200_000,
};
