import pino, { type Logger } from "pino";

export type Log = Logger;

/**
 * Drizzle writes a statement's parameters into its message, so the database's own error below it is
 * logged.
 */
export function withoutValues(error: unknown): unknown {
  return error instanceof Error && "params" in error && error.cause instanceof Error ? error.cause : error;
}

/**
 * Leaves out what holds values: Postgres's `detail` shows the failing row, ioredis's `command` its
 * arguments.
 */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { detail, parameters, args, command, raw, ...rest } = pino.stdSerializers.err(
    error,
  ) as never as Record<string, unknown>;
  return rest;
}

/**
 * JSON lines on standard output. Secrets are cut out by name, wherever a caller might log a whole
 * object.
 */
export function createLog(level: string, bindings: Record<string, unknown> = {}): Log {
  return pino({
    level,
    base: bindings,
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: { err: (error: Error) => serializeError(withoutValues(error)) },
    formatters: { level: (label) => ({ level: label }) },
    redact: {
      paths: [
        "password",
        "token",
        "refreshToken",
        "key",
        "authorization",
        "*.password",
        "*.token",
        "*.key",
        "*.authorization",
      ],
      censor: "[redacted]",
    },
  });
}
