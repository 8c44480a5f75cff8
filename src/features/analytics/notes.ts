import type { NOTE_CODES } from "./answer-schema.ts";

/** What a reader of an answer should know of its numbers. */
export interface Note {
  code: (typeof NOTE_CODES)[number];
  message: string;
}

export type Noted<T> = T & { notes?: Note[] };

const CONVERSION_OVER_ONE: Note = {
  code: "conversion_over_one",
  message:
    "A conversionRate here is over 1: more purchases than views were counted, as of sales that no view came before. purchaseRate of the shop is the share of users who bought, and never over 1.",
};

/** The answer with a note for every figure that could be taken for a mistake. */
export function withNotes<T extends object>(content: T): Noted<T> {
  const { notes = [] } = content as Noted<T>;
  return convertsOverOne(content) ? { ...content, notes: [...notes, CONVERSION_OVER_ONE] } : content;
}

function convertsOverOne(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(convertsOverOne);
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([name, inner]) =>
    name === "conversionRate" && typeof inner === "number" ? inner > 1 : convertsOverOne(inner),
  );
}
