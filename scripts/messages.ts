/**
 * The problem, in one sentence that says what to do. `./dev` prints it and ends with exit code 1.
 */
export class Refusal extends Error {}

export function refuse(sentence: string): never {
  throw new Refusal(sentence);
}

export function say(text: string): void {
  console.log(`==> ${text}`);
}
