import pino, { type Logger } from "pino";

export type Log = Logger;

/** JSON lines on standard output. Secrets are cut out by name, wherever a caller might log a whole object. */
export function createLog(level: string, bindings: Record<string, unknown> = {}): Log {
  return pino({
    level,
    base: bindings,
    timestamp: pino.stdTimeFunctions.isoTime,
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
