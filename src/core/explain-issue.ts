/**
 * Says what is wrong with an input and what would be right, in place of zod's messages. Each goes
 * on after the name of its field: `limit` "must be at least 1, but is 0". A client's text is
 * repeated only where it can't be a secret: where a name of a list or a time is expected.
 */
import type { z } from "zod";
import { explainInstant } from "./explain-instant.ts";
import { nearestOf } from "./nearest.ts";

type RawIssue = z.core.$ZodRawIssue;
type Finding<Code extends z.core.$ZodIssue["code"]> = Extract<z.core.$ZodIssue, { code: Code }> & RawIssue;

const MAX_SHOWN = 60;

const EXAMPLES: Readonly<Record<string, string>> = {
  email: "must be an e-mail address, such as ada@example.com",
  uuid: "must be a UUID, such as 0190b0a2-7c3e-7d11-8a55-2f6f0a3f9b10",
  url: "must be a URL, such as https://shop.example/",
  date: "must be a day, YYYY-MM-DD, such as 2026-11-21",
  ipv4: "must be an IPv4 address, such as 192.0.2.1",
  ipv6: "must be an IPv6 address, such as 2001:db8::1",
  cidrv4: "must be a range of IPv4 addresses, such as 192.0.2.0/24",
  cidrv6: "must be a range of IPv6 addresses, such as 2001:db8::/32",
};

/** The map that core/validation.ts gives to zod. A schema's own message comes first. */
export function explainIssue(issue: RawIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return explainType(issue as Finding<"invalid_type">);
    case "too_small":
      return explainBound(issue as Finding<"too_small">, "least", Number(issue.minimum));
    case "too_big":
      return explainBound(issue as Finding<"too_big">, "most", Number(issue.maximum));
    case "invalid_format":
      return explainFormat(issue as Finding<"invalid_format">);
    case "invalid_value":
      return explainValue(issue as Finding<"invalid_value">);
    case "not_multiple_of":
      return `must be a multiple of ${issue.divisor}`;
    case "unrecognized_keys":
      return explainKey(String(issue.keys?.[0]), knownKeys(issue));
    case "invalid_union":
      return explainUnion(issue as Finding<"invalid_union">);
    case "invalid_key":
    case "invalid_element": {
      const [first] = issue.issues as z.core.$ZodIssue[];
      const what = issue.code === "invalid_key" ? "has a key that is refused" : "has a value that is refused";
      return first ? `${what}: it ${first.message}` : what;
    }
    default:
      return "is not accepted";
  }
}

/** Of a key that is not known: what was meant, and what there is. */
export function explainKey(key: string, known: readonly string[]): string {
  if (known.length === 0) return "is no known name; none is taken here";
  const nearest = nearestOf(key, known);
  const names = `names are ${known.join(", ")}`;
  return nearest === null
    ? `is no known name; the ${names}`
    : `is no known name; did you mean ${nearest}? The ${names}`;
}

/** The keys that the object which raised the issue takes. */
export function knownKeys(issue: RawIssue): string[] {
  const { shape = {} } = (issue.inst?._zod.def ?? {}) as { shape?: object };
  return Object.keys(shape);
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  string: "a string",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "an array",
  object: "an object",
  record: "an object",
  null: "null",
};

function explainType({ expected, input }: Finding<"invalid_type">): string {
  const wanted = TYPE_NAMES[expected] ?? `of type ${expected}`;
  if (input === undefined) return `is required: it must be ${wanted}`;
  // A text of a query that is no number.
  if (typeof input === "number" && Number.isNaN(input)) return `must be ${wanted}`;
  if (typeof input === "number" && expected === "int") return `must be a whole number, but is ${input}`;
  if (input === Number.POSITIVE_INFINITY || input === Number.NEGATIVE_INFINITY)
    return "must be a number that a double can hold";
  return `must be ${wanted}, but is ${nameOfType(input)}`;
}

function nameOfType(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "boolean" ? String(value) : (TYPE_NAMES[typeof value] ?? typeof value);
}

const UNITS: Readonly<Record<string, string>> = {
  string: "character",
  array: "item",
  set: "item",
  map: "entry",
};

function explainBound(
  { origin, inclusive, exact, input }: Finding<"too_small"> | Finding<"too_big">,
  side: "least" | "most",
  bound: number,
): string {
  const unit = UNITS[origin];
  if (unit === undefined) {
    const than = side === "least" ? "more" : "less";
    const is = typeof input === "number" ? `, but is ${input}` : "";
    return inclusive === false ? `must be ${than} than ${bound}${is}` : `must be at ${side} ${bound}${is}`;
  }
  const size = (input as { length?: number } | undefined)?.length ?? 0;
  if (size === 0) return "must not be empty";
  const amount = `${bound} ${bound === 1 ? unit : plural(unit)}`;
  return `must have ${exact ? "exactly" : `at ${side}`} ${amount}, but has ${size}`;
}

const plural = (unit: string) => (unit === "entry" ? "entries" : `${unit}s`);

function explainFormat({ format, pattern, input }: Finding<"invalid_format">): string {
  if (format === "datetime") return explainInstant(String(input));
  return EXAMPLES[format] ?? (pattern ? `must match ${pattern}` : `must be of the format ${format}`);
}

function explainValue({ values, input }: Finding<"invalid_value">): string {
  const list = values.map(String);
  const wanted = list.length === 1 ? `must be ${list[0]}` : `must be one of ${list.join(", ")}`;
  if (input === undefined) return `is required: it ${wanted}`;
  if (typeof input !== "string") return `${wanted}, but is ${nameOfType(input)}`;
  const nearest = list.length > 1 ? nearestOf(input, list) : null;
  return `${wanted}, but is ${shown(input)}${nearest === null ? "" : `; did you mean ${nearest}?`}`;
}

/** The branches of a union that take values of this type, by their findings. */
export function nearBranches(branches: readonly z.core.$ZodIssue[][]): z.core.$ZodIssue[][] {
  // Only a number can miss "int": a value of another type has failed as a "number" before.
  return branches.filter(
    ([first]) =>
      first && (first.code !== "invalid_type" || first.path.length > 0 || first.expected === "int"),
  );
}

function explainUnion({ errors, input }: Finding<"invalid_union">): string {
  const near = nearBranches(errors).flatMap(([first]) => (first ? [messageWithPath(first)] : []));
  if (near.length > 0) return [...new Set(near)].join(", or ");
  const types = errors.map(([first]) => TYPE_NAMES[String((first as { expected?: string }).expected)]);
  if (input === undefined) return `is required: it must be ${types.join(" or ")}`;
  return `must be ${types.join(" or ")}, but is ${nameOfType(input)}`;
}

function messageWithPath({ path, message }: z.core.$ZodIssue): string {
  return path.length > 0 ? `its ${path.map(String).join(".")} ${message}` : message;
}

function shown(text: string): string {
  return JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text.toWellFormed());
}
