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

/** Tags answers and answers 304 to who has them. A tag is made of the whole answer, and a stream has no end. */
export function tagAnswers() {
  const tag = etag({ retainedHeaders: RETAINED_HEADERS });
  return (...[c, next]: Parameters<typeof tag>) => (c.req.path.endsWith("/stream") ? next() : tag(c, next));
}
