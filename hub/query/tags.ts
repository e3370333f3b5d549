/** Tags in queries: filters of key and value pattern, and grouping by some of them. Tags are canonical JSON, or null for none. */
import { nameMatcher } from '../name-patterns.ts';

/** By key the values that are asked for, `*` for any characters. All keys have to fit. */
export type TagFilter = Readonly<Record<string, readonly string[]>>;

export function parseTags(tags: string | null): Readonly<Record<string, string>> {
  return tags === null || tags === '' ? {} : (JSON.parse(tags) as Record<string, string>);
}

/** @param given `key:value` each. @returns by key the values asked for */
export function tagFilter(given: readonly string[] | undefined): TagFilter | null {
  if (given === undefined) return null;
  // Not in an object while it is made: a key may be named as what every object has.
  const filter = new Map<string, string[]>();
  for (const text of given) {
    const key = text.slice(0, text.indexOf(':'));
    filter.set(key, [...(filter.get(key) ?? []), text.slice(key.length + 1)]);
  }
  return Object.fromEntries(filter);
}

/** Each tag set is looked at once. */
export function tagMatcher(filter: TagFilter): (tags: string | null) => boolean {
  const matchers = Object.entries(filter).map(([key, values]) => ({ key, matches: nameMatcher(values) }));
  const known = new Map<string | null, boolean>();
  return (tags) => {
    let fits = known.get(tags);
    if (fits === undefined) {
      const own = parseTags(tags);
      fits = matchers.every(({ key, matches }) => Object.hasOwn(own, key) && matches(own[key]));
      known.set(tags, fits);
    }
    return fits;
  };
}

/** Only these keys, null if the set has none of them. */
export function projectTags(tags: string | null, keys: readonly string[]): string | null {
  if (keys.length === 0) return null;
  const own = Object.entries(parseTags(tags)).filter(([key]) => keys.includes(key));
  return own.length === 0 ? null : JSON.stringify(Object.fromEntries(own));
}
