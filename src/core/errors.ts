/**
 * Every way a request can fail, in one table. Clients branch on `code`, our own retry loops on
 * `retryable`. Thrown as AppError, and mapped to problem+json once (http/problem.ts).
 */
export const ERRORS = {
  invalid_input: { status: 400, title: "The request is not valid", retryable: false },
  malformed_body: { status: 400, title: "The body could not be read", retryable: false },
  currency_mismatch: { status: 400, title: "Another currency than the shop's", retryable: false },
  unauthenticated: { status: 401, title: "No valid credential", retryable: false },
  forbidden: { status: 403, title: "Not allowed", retryable: false },
  sales_not_trusted: { status: 403, title: "This credential may not send sales", retryable: false },
  not_found: { status: 404, title: "Not found", retryable: false },
  method_not_allowed: { status: 405, title: "Method not allowed", retryable: false },
  conflict: { status: 409, title: "Conflict with what is stored", retryable: false },
  insufficient_stock: { status: 409, title: "Not enough in stock", retryable: false },
  precondition_failed: { status: 412, title: "Precondition failed", retryable: false },
  idempotency_key_reused: {
    status: 422,
    title: "Idempotency-Key was used with another payload",
    retryable: false,
  },
  too_large: { status: 413, title: "Too large", retryable: false },
  unsupported_media_type: { status: 415, title: "Unsupported media type", retryable: false },
  rate_limited: { status: 429, title: "Too many requests", retryable: true },
  internal: { status: 500, title: "Something went wrong on our side", retryable: false },
  overloaded: { status: 503, title: "Too much to do", retryable: true },
  unavailable: { status: 503, title: "Temporarily unavailable", retryable: true },
} as const satisfies Record<string, { status: number; title: string; retryable: boolean }>;

export type ErrorCode = keyof typeof ERRORS;

/**
 * What is wrong with one field: `path` is a dotted path into the input, `code` is stable, `message`
 * is for people.
 */
export interface FieldError {
  path: string;
  code: string;
  message: string;
}

export interface AppErrorOptions {
  errors?: FieldError[];
  /** Seconds, sent as Retry-After. */
  retryAfterSeconds?: number;
  headers?: Record<string, string>;
  cause?: unknown;
}

/**
 * The one error type that features throw on purpose. `detail` is shown to the client unless the
 * status is 500.
 */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly errors: FieldError[] | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly headers: Record<string, string> | undefined;

  constructor(code: ErrorCode, detail: string, options: AppErrorOptions = {}) {
    super(detail, { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.errors = options.errors;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.headers = options.headers;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }
}
