import { etag, RETAINED_304_HEADERS } from "hono/etag";

/**
 * Our headers that a 304 carries, too: without those of CORS, a browser does not let its page see
 * the answer.
 */
const RETAINED_HEADERS = [
  ...RETAINED_304_HEADERS,
  "x-request-id",
  "ratelimit",
  "ratelimit-policy",
  "access-control-allow-origin",
  "access-control-expose-headers",
];

/**
 * Gives answers an ETag, and answers 304 to clients that have them. A tag is a hash of the whole
 * answer, so it excludes streams.
 */
export const tagAnswers = () => etag({ retainedHeaders: RETAINED_HEADERS });
