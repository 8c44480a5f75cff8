import { etag, RETAINED_304_HEADERS } from "hono/etag";

/** Ours that a 304 carries, too: without those of CORS, a browser does not let its page see the answer. */
const RETAINED_HEADERS = [
  ...RETAINED_304_HEADERS,
  "x-request-id",
  "ratelimit",
  "ratelimit-policy",
  "access-control-allow-origin",
  "access-control-expose-headers",
];

/** Tags answers and answers 304 to who has them. A tag is made of the whole answer, so nothing that streams may have one. */
export const tagAnswers = () => etag({ retainedHeaders: RETAINED_HEADERS });
