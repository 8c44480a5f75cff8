/**
 * What operations have in common, told once under `components` and referred to by name.
 * http/router.ts refers to it, http/docs.ts registers it.
 */
import { ERRORS, type ErrorCode } from "../core/errors.ts";
import { PRIORITIES } from "../core/priority.ts";

const text = (description: string, example: string) => ({
  description,
  schema: { type: "string" as const },
  example,
});
const header = <S extends object>(name: string, description: string, schema: S) => ({
  name,
  in: "header" as const,
  description,
  schema,
});

export const PARAMETERS = {
  RequestId: header(
    "X-Request-Id",
    "Names the request in answers, logs and the audit; made by the server unless sent",
    { type: "string" as const, pattern: "^[A-Za-z0-9_.:-]{1,128}$" },
  ),
  // By hand and not as a zod schema: the guard reads these three before any input is validated.
  TenantId: header("X-Tenant-Id", "Which of my tenants is meant; that of the credential unless said", {
    type: "string" as const,
    format: "uuid",
  }),
  SellerId: header(
    "X-Seller-Id",
    "For which seller an admin or a key acts, where products and their notifications are concerned",
    { type: "string" as const, minLength: 1, maxLength: 100 },
  ),
  Priority: header(
    "X-Priority",
    "How much the request matters under load. Staff (admins, analysts, API keys that may read analytics) have `high` unless they say otherwise, everybody else `normal`; customers and sellers can't have more than that",
    { type: "string" as const, enum: [...PRIORITIES] },
  ),
  IdempotencyKey: header(
    "Idempotency-Key",
    "Sent again within 24 hours with the same body, it is answered as the first time, without a second effect",
    { type: "string" as const, pattern: "^[!-~]{1,255}$" },
  ),
  IfMatch: {
    ...header("If-Match", "ETags of the resource; another version by now is a 412", {
      type: "string" as const,
    }),
    example: '"3-EUR"',
  },
  IfNoneMatch: {
    ...header("If-None-Match", "ETags of what the client has; it is answered 304 while one of them holds", {
      type: "string" as const,
    }),
    example: '"3-EUR"',
  },
};

export const HEADERS = {
  RequestId: text("The request's name, in logs and in the audit", "0190b0a2-7c3e-7d11-8a55-2f6f0a3f9b10"),
  RateLimit: text(
    "What is left of the tightest limit, and the seconds until it is whole again",
    '"standard";r=99;t=1',
  ),
  RateLimitPolicy: text(
    "That limit: requests and the seconds that they are counted over",
    '"standard";q=100;w=1',
  ),
  RetryAfter: {
    description: "Seconds after which it is worth trying again",
    schema: { type: "integer" as const, minimum: 0 },
    example: 1,
  },
  ETag: text("Names this version of the answer, for If-None-Match and If-Match", '"3-EUR"'),
  IdempotentReplayed: {
    description: "`true` on an answer that is the repetition of an earlier one with this Idempotency-Key",
    schema: { type: "string" as const, enum: ["true"] },
  },
  WwwAuthenticate: text("How to prove who is calling", "Bearer"),
  AcceptEncoding: text("The encodings that the operation takes, where that was the reason", "identity"),
  Location: text("Where the new resource is", "/products/tea-100"),
  ContentDisposition: text("The file's name", 'attachment; filename="events.csv"'),
};

/** By the name of its field. */
const HEADER_FIELDS = {
  "X-Request-Id": "RequestId",
  RateLimit: "RateLimit",
  "RateLimit-Policy": "RateLimitPolicy",
  "Retry-After": "RetryAfter",
  ETag: "ETag",
  "Idempotent-Replayed": "IdempotentReplayed",
  "WWW-Authenticate": "WwwAuthenticate",
  "Accept-Encoding": "AcceptEncoding",
  Location: "Location",
  "Content-Disposition": "ContentDisposition",
} as const satisfies Record<string, keyof typeof HEADERS>;
export type HeaderField = keyof typeof HEADER_FIELDS;

export function headerReferences(fields: readonly HeaderField[]): Record<string, { $ref: string }> {
  return Object.fromEntries(
    fields.map((field) => [field, { $ref: `#/components/headers/${HEADER_FIELDS[field]}` }]),
  );
}

export const parameterReference = (name: keyof typeof PARAMETERS) => ({
  $ref: `#/components/parameters/${name}`,
});

interface ProblemPart {
  name: string;
  description: string;
  /** What the example shows. */
  code: ErrorCode;
  detail: string;
  headers?: readonly HeaderField[];
}

export const PROBLEMS = {
  400: {
    name: "BadRequest",
    description: "Invalid input",
    code: "invalid_input",
    detail: "The body is not valid: price must be at least 0, but is -1.",
  },
  401: {
    name: "Unauthorized",
    description: "No or bad credential",
    code: "unauthenticated",
    detail: "Send a token or an API key as Authorization: Bearer, or a key as X-Api-Key.",
    headers: ["WWW-Authenticate"],
  },
  403: {
    name: "Forbidden",
    description: "Not allowed",
    code: "forbidden",
    detail: "This takes one of the roles: admin.",
  },
  404: {
    name: "NotFound",
    description: "Absent, or another tenant's",
    code: "not_found",
    detail: "There is no such product.",
  },
  409: { name: "Conflict", description: "Conflict", code: "conflict", detail: "This id is taken." },
  412: {
    name: "PreconditionFailed",
    description: "Precondition failed",
    code: "precondition_failed",
    detail: "The product has another version by now.",
  },
  413: {
    name: "TooLarge",
    description: "Too large",
    code: "too_large",
    detail: "The body is larger than this route takes.",
  },
  415: {
    name: "UnsupportedMediaType",
    description: "Unsupported media type",
    code: "unsupported_media_type",
    detail: "Send the body as application/json.",
    headers: ["Accept-Encoding"],
  },
  422: {
    name: "IdempotencyKeyReused",
    description: "Idempotency-Key reused with another payload",
    code: "idempotency_key_reused",
    detail: "This Idempotency-Key came with another body before.",
  },
  429: {
    name: "TooManyRequests",
    description: "Too many requests",
    code: "rate_limited",
    detail: "More than 100 requests in 1 s.",
    headers: ["Retry-After"],
  },
  500: {
    name: "InternalError",
    description: "A fault of the server, logged under the request's id",
    code: "internal",
    detail: "The failure was logged under this request id.",
  },
  503: {
    name: "Unavailable",
    description: "Temporarily unavailable",
    code: "unavailable",
    detail: "The database does not answer.",
    headers: ["Retry-After"],
  },
} as const satisfies Record<number, ProblemPart>;
export type ProblemStatus = keyof typeof PROBLEMS;

export const problemReference = (status: ProblemStatus) => ({
  $ref: `#/components/responses/${PROBLEMS[status].name}`,
});

export const NOT_MODIFIED_REFERENCE = { $ref: "#/components/responses/NotModified" };

const SEEN_ON_EVERY_ANSWER: readonly HeaderField[] = ["X-Request-Id", "RateLimit", "RateLimit-Policy"];

/**
 * Every problem with its example, and the answer without a body for clients that have it already.
 */
export function responseParts() {
  const problems = Object.values<ProblemPart>(PROBLEMS).map(
    ({ name, description, code, detail, headers = [] }) => {
      const { status, title } = ERRORS[code];
      const example = {
        type: "about:blank",
        title,
        status,
        detail,
        code,
        requestId: HEADERS.RequestId.example,
      };
      const schema = { $ref: "#/components/schemas/Problem" };
      const response = {
        description,
        headers: headerReferences([...SEEN_ON_EVERY_ANSWER, ...headers]),
        content: { "application/problem+json": { schema, example } },
      };
      return [name, response] as const;
    },
  );
  const notModified = {
    description: "If-None-Match names what would be sent",
    headers: headerReferences([...SEEN_ON_EVERY_ANSWER, "ETag"]),
  };
  return Object.fromEntries([...problems, ["NotModified", notModified] as const]);
}
