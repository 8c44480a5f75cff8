/**
 * A field of RFC 4180, quoted where it must be, and never a formula to a spreadsheet: text that begins like one is
 * preceded by an apostrophe (OWASP, "CSV Injection").
 */
export function csvField(value: string | number | null): string {
  if (value === null) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
