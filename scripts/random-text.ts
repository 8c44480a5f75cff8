/** Letters and digits. */
export function randomText(characters: number): string {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  const bytes = crypto.getRandomValues(new Uint32Array(characters));
  return [...bytes].map((byte) => letters[byte % letters.length]).join("");
}
