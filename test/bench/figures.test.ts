import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { barChart } from './chart.ts';
import { asMarkdown, formatNumber, isMet, ratioTable, Samples, valueTable, type BenchResult } from './figures.ts';
import { describeMachine } from './machine.ts';
import { Payload } from './payload.ts';
import { noteMeasured, summariseProfiles } from './profile-summary.ts';
import { mergeResults, renderReport } from './report.ts';

function measured(): Samples {
  const samples = new Samples();
  for (const [ours, theirs] of [
    [100, 200],
    [300, 400],
    [50, 500],
  ]) {
    samples.add('load', 'ours', 'messages', '/s', ours);
    samples.add('load', 'theirs', 'messages', '/s', theirs);
  }
  return samples;
}

describe('figures', () => {
  test('are the median of the rounds with the least and the greatest', () => {
    expect(measured().figures()[0]).toMatchObject({ name: 'ours', value: 100, spread: [50, 300] });
  });

  test('of two rounds lie between them', () => {
    const samples = new Samples();
    for (const value of [1, 3]) samples.add('load', 'ours', 'messages', '/s', value);
    expect(samples.figures()[0]).toMatchObject({ value: 2, spread: [1, 3] });
  });

  test('compare round by round, not median by median', () => {
    const samples = measured();
    samples.compare('load', 'ours', 'messages', 'theirs');
    expect(samples.figures()[0]).toMatchObject({ reference: 'theirs', ratio: 0.5, ratioSpread: [0.1, 0.75] });
  });

  test('of a peer that was not there have no ratio, and what was wanted of it is not shown', () => {
    const samples = measured();
    samples.compare('load', 'ours', 'messages', 'absent', { atLeast: 1 });
    const [figure] = samples.figures();
    expect(figure.ratio).toBeUndefined();
    expect(isMet(figure)).toBeNull();
  });

  test('that are no numbers are left out', () => {
    const samples = measured();
    samples.add('load', 'ours', 'latency', 'ms', NaN);
    expect(samples.figures().map(({ metric }) => metric)).not.toContain('latency');
  });

  test.each([
    [{ atLeast: 0.5 }, true],
    [{ atLeast: 0.51 }, false],
    [{ atMost: 0.49 }, false],
  ])('wanted %o of a ratio of 0.5 is met: %s', (wanted, met) => {
    const samples = measured();
    samples.compare('load', 'ours', 'messages', 'theirs', wanted);
    expect(isMet(samples.figures()[0])).toBe(met);
    expect(ratioTable(samples.figures())[1].at(-1)).toBe(met ? 'yes' : 'no');
  });

  test('stand in one row per case and subject, with a column per metric', () => {
    const samples = measured();
    samples.add('load', 'ours', 'memory', 'MB', 12.345);
    const table = valueTable(samples.figures());
    expect(table).toEqual([
      ['case', 'subject', 'messages, /s', 'memory, MB'],
      ['load', 'ours', '100 (50.0 … 300)', '12.3'],
      ['load', 'theirs', '400 (200 … 500)', ''],
    ]);
    expect(asMarkdown(table).split('\n')).toHaveLength(4);
  });

  test.each([
    [1234567, '1,234,567'],
    [12.345, '12.3'],
    [0.01234, '0.0123'],
    [0, '0'],
  ])('%s is shown as %s', (value, shown) => {
    expect(formatNumber(value)).toBe(shown);
  });
});

test('a chart has a bar for each figure and no markup out of names', () => {
  const samples = new Samples();
  samples.add('a < b', 'x & "y"', 'messages', '/s', 1);
  samples.add('a < b', 'z', 'messages', '/s', 2);
  const svg = barChart('t', samples.figures());
  expect(svg.match(/<rect /g)).toHaveLength(2);
  expect(svg).toContain('a &lt; b');
  expect(svg).toContain('x &amp; &quot;y&quot;');
});

describe('a payload', () => {
  test('of one reading is a JSON object with the time of the message', () => {
    const payload = new Payload(1, 1);
    const out = Buffer.alloc(payload.bytes.length + 3);
    payload.writeTo(out, 3, 1_700_000_000_123);
    expect(JSON.parse(out.toString('utf8', 3))).toEqual({ ts: 1_700_000_000_123, temperature: expect.any(Number) });
  });

  test('of 100 readings is 25 objects of four metrics, a second apart, the last one now', () => {
    const payload = new Payload(100, 1);
    const out = Buffer.alloc(payload.bytes.length);
    payload.writeTo(out, 0, 1_700_000_000_000);
    const objects = JSON.parse(out.toString()) as Record<string, number>[];
    expect(objects).toHaveLength(25);
    expect(objects.map(({ ts }) => ts)).toEqual(Array.from({ length: 25 }, (_, index) => 1_700_000_000_000 - (24 - index) * 1000));
    expect(objects.every((object) => Object.keys(object).length === 5)).toBe(true);
  });

  test('changes from message to message', () => {
    const payload = new Payload(100, 1);
    const [first, second] = [Buffer.alloc(payload.bytes.length), Buffer.alloc(payload.bytes.length)];
    payload.writeTo(first, 0, 1_700_000_000_000);
    payload.writeTo(second, 0, 1_700_000_000_000);
    expect(first.equals(second)).toBe(false);
  });
});

describe('the page of several runs', () => {
  const result = (name: string, rounds: number, cpu = 'this'): BenchResult => ({
    run: { machine: { ...describeMachine(new Date(0)), cpu }, command: `npm run bench -- ${name}`, isShort: false },
    name,
    title: name,
    method: 'How.',
    rounds,
    figures: measured().figures(),
    notes: [],
    chart: null,
    hotThreads: [],
  });

  test('replaces what was measured anew and keeps the rest, in the order of the page', () => {
    const merged = mergeResults(['first', 'second', 'third'], [result('second', 1), result('first', 1)], [result('second', 3)]);
    expect(merged.map(({ name, rounds }) => [name, rounds])).toEqual([
      ['first', 1],
      ['second', 3],
    ]);
    const page = renderReport(merged).get('benchmarks.md');
    expect(page).toContain('`npm run bench -- second`, 3 rounds, 1970-01-01');
  });

  test('never mixes two machines', () => {
    const merged = mergeResults(['first', 'second'], [result('first', 1, 'another')], [result('second', 1)]);
    expect(merged.map(({ name }) => name)).toEqual(['second']);
  });
});

test('a profile is cut to what was measured: starting and ending do not count', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-profile-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const node = (id: number, functionName: string) => ({ id, callFrame: { functionName, url: 'file:///a.js', lineNumber: 0 } });
  const nowUs = Number(process.hrtime.bigint() / 1000n);
  const profile = {
    nodes: [node(1, 'compile'), node(2, 'work'), node(3, '(idle)')],
    startTime: nowUs - 10_000_000,
    samples: [1, 2, 3],
    timeDeltas: [1_000_000, 6_000_000, 2_500_000],
  };
  writeFileSync(path.join(directory, 'main.cpuprofile'), JSON.stringify(profile));
  expect(summariseProfiles(directory)[0].functions.map(({ name }) => name)).toEqual(['compile in a', 'work in a']);
  noteMeasured(directory, 5);
  expect(summariseProfiles(directory)[0].functions).toEqual([{ name: 'work in a', share: 1 }]);
});
