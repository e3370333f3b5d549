/** For tests: journals over real files, groups without a broker, and what a journal holds, read back out of its batches. */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach } from 'vitest';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { ManualClock } from '../../shared/clock.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { OpenGroup, type Group } from './group.ts';
import type { RegisteredSeries } from './journal-api.ts';
import { Journal, JOURNAL_DEFAULTS, type JournalOptions } from './journal.ts';

export const START_US = Date.UTC(2026, 0, 15, 12) * 1000;

const directories: string[] = [];
const journals: Journal[] = [];

afterEach(() => {
  for (const journal of journals.splice(0)) journal.close();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

export function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-journal-'));
  directories.push(directory);
  return directory;
}

/** Different for every call, the same in every run. */
export function countingHex(seed: string): (bytes: number) => string {
  let calls = 0;
  return (bytes) =>
    createHash('sha256')
      .update(`${seed}/${calls++}`)
      .digest('hex')
      .slice(0, 2 * bytes);
}

let openings = 0;

export function openJournal(directory: string, options: Partial<JournalOptions> = {}): Journal {
  const clock = options.clock ?? new ManualClock(START_US);
  const journal = new Journal({
    ...JOURNAL_DEFAULTS,
    freeSpaceReserveBytes: 0,
    growWal: false,
    // One lane, unless a test is about two.
    backfillAfterMs: 1e12,
    compression: 'none',
    directory,
    clock,
    randomHex: countingHex(`opening ${openings++}`),
    ...options,
  });
  journals.push(journal);
  return journal;
}

export interface TestReading {
  /** Series id: the series is device `d<id>`, metric `m`. */
  readonly series: number;
  readonly value: number;
  readonly eventTimeUs?: number;
  readonly text?: string;
}

/** One message per inner list. Series 0 … `seriesCount - 1` go along as new ones. */
export function groupOf(messages: readonly (readonly TestReading[])[], arrivalUs = 0, seriesCount = 8): Group {
  const open = new OpenGroup();
  for (const readings of messages) {
    for (const { series, eventTimeUs, value, text } of readings) open.add(series, eventTimeUs ?? NaN, value, text ?? null);
    open.endMessage(arrivalUs);
  }
  return open.take(0, seriesOfTest(seriesCount));
}

export function seriesOfTest(count: number): RegisteredSeries[] {
  return Array.from({ length: count }, (_, id) => ({ device: `d${id}`, metric: 'm', tags: '', priority: 0 }));
}

export function groupOfExceptions(records: readonly ExceptionRecord[], arrivalUs = 0): Group {
  const open = new OpenGroup();
  for (const record of records) {
    open.exception(record);
    open.endMessage(arrivalUs);
  }
  return open.take(0, []);
}

export interface Held {
  /** `device=value` in the order of batches and runs. */
  readonly readings: string[];
  readonly times: number[];
  readonly exceptions: ExceptionRecord[];
}

/** Offers everything on every lane, as an uplink does, and decodes it. Seqs must ascend without holes. */
export function drain(journal: Journal): Held & { readonly seqs: string[] } {
  const held = { readings: [] as string[], times: [] as number[], exceptions: [] as ExceptionRecord[], seqs: [] as string[] };
  for (const { epoch, lane, base } of journal.lanes()) {
    let expected = base;
    for (;;) {
      const batches = journal.offer(epoch, lane, expected - 1, 1);
      if (batches.length === 0) break;
      for (const { seq, body, readingCount, exceptionCount } of batches) {
        if (seq !== expected++) throw new Error(`lane ${epoch}/${lane}: seq ${seq} instead of ${expected - 1}`);
        held.seqs.push(`${epoch}/${lane === 'live' ? '' : 'backfill/'}${seq}`);
        const { runs, exceptions } = decodeBatch(body);
        if (runs.count !== readingCount || exceptions.length !== exceptionCount)
          throw new Error('counts beside the batch differ from those inside');
        runs.seriesTable.forEach(({ device }, index) => {
          for (let at = runs.runOffsets[index]; at < runs.runOffsets[index + 1]; at++) {
            const text = runs.text === null ? 0 : runs.text[at];
            held.readings.push(`${device}=${text === 0 ? runs.value[at] : runs.texts[text - 1]}`);
            held.times.push(runs.eventTimeUs[at]);
          }
        });
        held.exceptions.push(...exceptions);
      }
    }
  }
  return held;
}

/** What a crash leaves: the files as they are at this moment, without a close. */
export function crashCopy(from: string, to: string): void {
  for (const suffix of ['', '-wal']) {
    const file = path.join(from, `journal.db${suffix}`);
    if (existsSync(file)) cpSync(file, path.join(to, `journal.db${suffix}`));
    else rmSync(path.join(to, `journal.db${suffix}`), { force: true });
  }
}
