import fc from 'fast-check';
import { expect, test } from 'vitest';
import { likeOf, nameFilter, nameMatcher, patternPrefix } from './name-patterns.ts';

test('a star stands for any characters, everything else for itself', () => {
  const character = fc.constantFrom('a', 'b', '*', '.', '%', '\\');
  fc.assert(
    fc.property(fc.string({ unit: character, maxLength: 6 }), fc.string({ unit: character, maxLength: 8 }), (pattern, name) => {
      const expected = new RegExp(
        `^${pattern
          .split('*')
          .map((part) => part.replaceAll(/[.\\%]/g, String.raw`\$&`))
          .join('.*')}$`,
        's',
      ).test(name);
      expect(nameMatcher([pattern])(name)).toBe(expected);
      if (expected) expect(name.startsWith(patternPrefix(pattern))).toBe(true);
    }),
  );
});

test('lists without a pattern stay sets, and a pattern for SQL matches its own characters only', () => {
  expect(nameFilter(['a', 'b'])).toEqual(new Set(['a', 'b']));
  expect(['a', 'pump-1', 'b'].filter(nameMatcher(['pump-*', 'b']))).toEqual(['pump-1', 'b']);
  expect(likeOf('100%_*\\')).toBe('100\\%\\_%\\\\');
});
