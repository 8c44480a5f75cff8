import { createTransport } from "nodemailer";
import { createSemaphore } from "../core/semaphore.ts";
import type { Log } from "../telemetry/log.ts";

export interface Mail {
  to: string;
  subject: string;
  text: string;
}

export interface Mailer {
  /** Resolves when the mail server has taken the mail. Throws `unavailable` when too many wait. */
  send(mail: Mail): Promise<void>;
}

const RUNNING = 2;
const WAITING = 100;
/** Connection, greeting and each answer of the server. */
const TIMEOUT_MS = 10_000;

/**
 * Sends mail by SMTP; `url` as in `smtps://user:password@mail.example.com`. By nodemailer, which
 * knows TLS, authentication and MIME, needs no other package, and runs in the binary.
 */
export function createMailer({ url, from, log }: { url: string; from: string; log: Log }): Mailer {
  const transport = createTransport({
    url,
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
  });
  const slots = createSemaphore(RUNNING, WAITING);
  return {
    async send(mail) {
      const { messageId } = await slots.run(() => transport.sendMail({ from, ...mail }));
      log.info({ messageId, subject: mail.subject }, "mail sent");
    },
  };
}
