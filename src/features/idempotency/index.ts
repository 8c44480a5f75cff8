export {
  createIdempotency,
  type Idempotency,
  type IdempotentAnswer,
  pruneIdempotencyKeys,
} from "./service.ts";
