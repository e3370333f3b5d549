import { describe, expect, test } from 'vitest';
import {
  DEFAULT_WINDOW_DEFINITIONS,
  definitionHash,
  formatDurationMs,
  parseDurationMs,
  windowDefinitionsSchema,
  usualDefinitions,
  windowStartsUs,
  windowStartUs,
  type WindowDefinition,
} from './definition.ts';

describe('parseDurationMs', () => {
  test('reads whole numbers with a unit', () => {
    expect(['250ms', '10s', '1m', '90m', '1h', '1d'].map(parseDurationMs)).toEqual([250, 10_000, 60_000, 5_400_000, 3_600_000, 86_400_000]);
  });

  test('refuses everything else', () => {
    for (const text of ['', '10', 's', '0s', '-1s', '1.5m', '1 m', '1M', '1w', '999999999999999d', '1h30m', '01s']) {
      expect(parseDurationMs(text), text).toBeNull();
    }
  });

  test('is inverted by formatDurationMs', () => {
    for (const text of ['250ms', '10s', '1m', '90m', '1h', '36h', '1d'])
      expect(formatDurationMs(parseDurationMs(text) as number)).toBe(text);
  });
});

describe('windowDefinitionsSchema', () => {
  test('parses what a configuration file has', () => {
    expect(
      windowDefinitionsSchema.parse([
        { name: '1m', size: '1m' },
        { name: 'fleet', size: '15m', by: 'metric', persisted: false },
        { name: 'moving', size: '1h', slide: '5m' },
        { name: 'plain', size: '2h', slide: '120m' },
      ]),
    ).toEqual([
      { name: '1m', sizeMs: 60_000, by: 'series', persisted: true },
      { name: 'fleet', sizeMs: 900_000, by: 'metric', persisted: false },
      { name: 'moving', sizeMs: 3_600_000, slideMs: 300_000, by: 'series', persisted: true },
      { name: 'plain', sizeMs: 7_200_000, by: 'series', persisted: true },
    ]);
  });

  test('refuses, with the path, unknown keys, bad sizes, bad and double names, and the same window twice', () => {
    const paths = (input: unknown): string[] =>
      windowDefinitionsSchema.safeParse(input).error?.issues.map((issue) => issue.path.join('.')) ?? [];
    expect(paths([{ name: 'a', size: '1m', hop: '10s' }])).toEqual(['0']);
    expect(paths([{ name: 'a', size: 'soon' }])).toEqual(['0.size']);
    expect(paths([{ name: 'a', size: '1ms' }])).toEqual(['0.size']);
    expect(paths([{ name: 'a', size: '31d' }])).toEqual(['0.size']);
    for (const slide of ['40s', '2m', '500ms', 'often']) expect(paths([{ name: 'a', size: '1m', slide }])).toEqual(['0.slide']);
    expect(paths([{ name: 'a b', size: '1m' }])).toEqual(['0.name']);
    expect(
      paths([
        { name: 'a', size: '1m' },
        { name: 'a', size: '1h' },
      ]),
    ).toEqual(['1.name']);
    expect(
      paths([
        { name: 'a', size: '1m' },
        { name: 'b', size: '60s' },
      ]),
    ).toEqual(['1']);
    expect(paths([])).toEqual(['']);
    expect(paths(null)).toEqual(['']);
  });
});

describe('definitionHash', () => {
  const minute: WindowDefinition = { name: '1m', sizeMs: 60_000, by: 'series', persisted: true };

  test('stands in the lake, so it never changes by accident', () => {
    expect(DEFAULT_WINDOW_DEFINITIONS.map((definition) => `${definition.name} ${definitionHash(definition)}`)).toMatchInlineSnapshot(`
      [
        "10s 69755da51850c318",
        "1m 3950f77c05c4b41f",
        "1h 422a2cdb6bc9849f",
        "1m_by_metric 1cace76fdca64546",
      ]
    `);
  });

  test('depends on size and keys, not on the name or on being persisted', () => {
    expect(definitionHash({ ...minute, name: 'x', persisted: false })).toBe(definitionHash(minute));
    expect(definitionHash({ ...minute, sizeMs: 60_001 })).not.toBe(definitionHash(minute));
    expect(definitionHash({ ...minute, slideMs: 10_000 })).not.toBe(definitionHash(minute));
    expect(definitionHash({ ...minute, slideMs: 10_000 })).not.toBe(definitionHash({ ...minute, slideMs: 20_000 }));
    expect(definitionHash({ ...minute, by: 'metric' })).not.toBe(definitionHash(minute));
  });
});

test('windows are half-open and aligned to the epoch, before it too', () => {
  const minute: WindowDefinition = { name: '1m', sizeMs: 60_000, by: 'series', persisted: true };
  expect([0, 59_999_999, 60_000_000, -1].map((us) => windowStartUs(minute, us))).toEqual([0, 0, 60_000_000, -60_000_000]);
});

test('a hopping window starts at every multiple of its slide, so a time is in as many as fit into its size', () => {
  const hopping: WindowDefinition = { name: 'h', sizeMs: 60_000, slideMs: 20_000, by: 'series', persisted: true };
  expect(windowStartsUs(hopping, 59_999_999)).toEqual([40_000_000, 20_000_000, 0]);
  expect(windowStartsUs(hopping, 60_000_000)).toEqual([60_000_000, 40_000_000, 20_000_000]);
});

test('where no window is named, an answer takes one without overlaps as long as there is one', () => {
  const names = (definitions: readonly WindowDefinition[]): string[] => usualDefinitions(definitions).map(({ name }) => name);
  const hopping: WindowDefinition = { name: 'h', sizeMs: 60_000, slideMs: 20_000, by: 'series', persisted: true };
  expect(names([...DEFAULT_WINDOW_DEFINITIONS, hopping])).toEqual(['10s', '1m', '1h']);
  expect(names([hopping, { name: 'm', sizeMs: 60_000, by: 'metric', persisted: true }])).toEqual(['m']);
  expect(names([hopping])).toEqual(['h']);
});
