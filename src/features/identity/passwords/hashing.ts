import { hash, verify } from "@node-rs/argon2";
import { createSemaphore } from "../../../core/semaphore.ts";

/**
 * argon2id with the parameters of the OWASP password storage cheat sheet (19 MiB, 2 passes). It
 * runs on the thread pool and costs ~30 ms of a core, so two run at once, twenty wait, and the rest
 * are refused for now.
 */
const OPTIONS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };
const slots = createSemaphore(2, 20);

/** An unknown user's password is checked against this, so that it takes the same time. */
let decoyHash: string | undefined;

async function decoy(): Promise<string> {
  decoyHash ??= await hash("no such user", OPTIONS);
  return decoyHash;
}

export async function hashPassword(password: string): Promise<string> {
  return slots.run(() => hash(password, OPTIONS));
}

/**
 * True when the password belongs to the hash; a null hash costs the same time and is never true.
 */
export async function verifyPassword(passwordHash: string | null, password: string): Promise<boolean> {
  return slots.run(async () => {
    // An account may have no usable password, and argon2 throws for a text that is no hash of its
    // own.
    const usable = passwordHash?.startsWith("$argon2") ? passwordHash : null;
    const matches = await verify(usable ?? (await decoy()), password);
    return matches && usable !== null;
  });
}
