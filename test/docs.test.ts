import { expect, test } from 'vitest';
import { readFileSync } from 'node:fs';
import { PAGES } from './docs.ts';

test.each(Object.entries(PAGES))('%s is what the source makes (npm run docs)', async (file, make) => {
  expect(readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')).toBe(await make());
});
