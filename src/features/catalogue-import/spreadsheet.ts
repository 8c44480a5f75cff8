/**
 * Cells that a spreadsheet opens as text. One that begins like a formula gets an apostrophe before it, and so does one
 * that would look as if it had got one, so taking one off again gives back what was exported, always.
 */
const FORMULA = /^'*[=+\-@\t\r\n]/;
const PREFIXED = /^''*[=+\-@\t\r\n]/;
const APOSTROPHE = 0x27;

/** One CSV cell: never a formula, quoted where it must be. */
export function toCell(text: string): string {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The text that `toCell` was given. */
export function fromCell(cell: string): string {
  return cell.charCodeAt(0) === APOSTROPHE && PREFIXED.test(cell) ? cell.slice(1) : cell;
}
