import { join } from "node:path";

/** Tells for which package.json and bun.lock the packages beside it were installed. */
export const STAMP = "node_modules/.footfall-stamp";

/** By what is wanted, not by the files' age: a checkout or a copy changes only the age. */
export async function packageStamp(root: string): Promise<string> {
  const texts = ["package.json", "bun.lock"].map((name) => Bun.file(join(root, name)).text());
  return new Bun.CryptoHasher("sha256").update((await Promise.all(texts)).join("\0")).digest("hex");
}
