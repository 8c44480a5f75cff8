/** How much a request matters under load (X-Priority), the least first. */
export const PRIORITIES = ["low", "normal", "high", "critical"] as const;
export type Priority = (typeof PRIORITIES)[number];

export function isPriority(text: string): text is Priority {
  return (PRIORITIES as readonly string[]).includes(text);
}
