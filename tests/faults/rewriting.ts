import type { Sql } from "../../src/db/client.ts";
import type { Transaction } from "../../src/db/transaction.ts";

/**
 * The client with parts of its statements replaced. Throws when a statement does not contain the
 * part.
 */
export function rewriting<S extends Sql | Transaction>(sql: S, replacements: Record<string, string>): S {
  const found = new Set<string>();
  const rewrite = (text: string) =>
    Object.entries(replacements).reduce((changed, [from, to]) => {
      if (changed.includes(from)) found.add(from);
      return changed.replaceAll(from, to);
    }, text);
  const check = () => {
    const missing = Object.keys(replacements).filter((from) => !found.has(from));
    if (missing.length > 0) throw new Error(`The guard is written otherwise by now: ${missing.join(" | ")}`);
  };
  return new Proxy(sql, {
    apply(target, self, [strings, ...values]: [TemplateStringsArray, ...unknown[]]) {
      if (!Array.isArray(strings) || !("raw" in strings))
        return Reflect.apply(target, self, [strings, ...values]);
      const changed = strings.map(rewrite);
      if (strings.some((text, n) => text !== changed[n])) check();
      return Reflect.apply(target, self, [Object.assign(changed, { raw: changed }), ...values]);
    },
    get(target, property) {
      if (property !== "unsafe") return Reflect.get(target, property);
      return (text: string, ...rest: unknown[]) => {
        const changed = rewrite(text);
        check();
        return Reflect.apply(target.unsafe, target, [changed, ...rest]);
      };
    },
  });
}
