/** Lists of names in which `*` stands for any characters: `pump-*`. A name that has a `*` itself is found by its pattern too. */

import { compareUtf8 } from './lake/parquet/text-order.ts';

export function isPattern(name: string): boolean {
  return name.includes('*');
}

/** In time linear in the name: the parts between the stars are looked for from left to right. */
function matches(parts: readonly string[], name: string): boolean {
  const [first, ...rest] = parts;
  const last = rest.pop();
  if (last === undefined) return name === first;
  if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length) return false;
  let at = first.length;
  const end = name.length - last.length;
  for (const part of rest) {
    const found = name.indexOf(part, at);
    if (found < 0 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}

/** A set where no name is a pattern: that is cheaper. */
export function nameFilter(names: readonly string[]): ReadonlySet<string> | ((name: string) => boolean) {
  const exact = new Set(names.filter((name) => !isPattern(name)));
  const patterns = names.filter(isPattern).map((name) => name.split('*'));
  if (patterns.length === 0) return exact;
  return (name) => exact.has(name) || patterns.some((parts) => matches(parts, name));
}

export function nameMatcher(names: readonly string[]): (name: string) => boolean {
  const filter = nameFilter(names);
  return typeof filter === 'function' ? filter : (name) => filter.has(name);
}

/** What every name of the pattern begins with. */
export function patternPrefix(name: string): string {
  const star = name.indexOf('*');
  return star < 0 ? name : name.slice(0, star);
}

/** May a name of a column with these bounds be one of `names`? Bounds that are no texts say nothing. */
export function mayHoldNames(min: unknown, max: unknown, names: readonly string[] | null): boolean {
  if (names === null) return true;
  return names.some((name) => {
    const first = patternPrefix(name);
    // The last name of a pattern is bounded by none: only a minimum that begins otherwise is behind all of them.
    const isBehind = typeof min === 'string' && compareUtf8(first, min) < 0 && !(isPattern(name) && min.startsWith(first));
    return !isBehind && !(typeof max === 'string' && compareUtf8(first, max) > 0);
  });
}

/** For SQL: `column LIKE … ESCAPE '\'`. */
export function likeOf(pattern: string): string {
  return pattern.replaceAll(/[\\%_]/g, String.raw`\$&`).replaceAll('*', '%');
}
