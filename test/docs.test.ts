import { expect, test } from 'vitest';
import { readFileSync } from 'node:fs';
import { PAGES } from './docs.ts';

test.each(Object.entries(PAGES))('%s is what the source makes (npm run docs)', (file, make) => {
  expect(readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')).toBe(make());
});
