import { copyFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { PAGE_BYTES } from './database.ts';
import { crashCopy, drain, groupOf, openJournal, START_US, temporaryDirectory, type Held } from './journal-fixture.ts';
import { examineWal, repairWal } from './wal-repair.ts';

const FRAME_BYTES = 24 + PAGE_BYTES;
const databaseOf = (directory: string): string => path.join(directory, 'journal.db');
const walOf = (directory: string): string => `${databaseOf(directory)}-wal`;

interface Image {
  readonly database: Buffer;
  readonly wal: Buffer;
  readonly held: Held & { readonly seqs: readonly string[] };
}

let image: Image | null = null;

/** Groups, seals, offers and frees, all of them still in the WAL, as a crash leaves them; and what an undamaged copy then has. */
function crashed(): Image {
  if (image !== null) return image;
  const clock = new ManualClock(START_US);
  const directory = temporaryDirectory();
  const copy = temporaryDirectory();
  const journal = openJournal(directory, { clock });
  const { epoch } = journal;
  for (let group = 0; group < 40; group++) {
    clock.advance(1_000_000);
    const readings = Array.from({ length: 150 }, (_, at) => [{ series: at % 8, value: Math.sin(group * 1000 + at) }]);
    journal.commit(groupOf(readings, clock.monotonicUs()));
    if (group % 3 === 1) journal.tick();
    if (group % 6 === 5) {
      const offered = journal.offer(epoch, 'live', 0, 1e9);
      journal.free(epoch, 'live', (offered.at(-1)?.seq ?? 0) - 2);
    }
  }
  crashCopy(directory, copy);
  journal.close();
  const made = { database: readFileSync(databaseOf(copy)), wal: readFileSync(walOf(copy)) };
  return (image = { ...made, held: drained(made) });
}

function drained(files: { readonly database: Buffer; readonly wal: Buffer }): Image['held'] & { readonly quarantined: boolean } {
  const directory = temporaryDirectory();
  writeFileSync(databaseOf(directory), files.database);
  writeFileSync(walOf(directory), files.wal);
  const journal = openJournal(directory, { clock: new ManualClock(START_US + 3_600_000_000) });
  const held = drain(journal);
  journal.close();
  const ofFirstLane = held.seqs.filter((seq) => !seq.startsWith(journal.epoch));
  return { ...held, seqs: ofFirstLane, quarantined: existsSync(path.join(directory, 'quarantine')) };
}

const frameCount = (wal: Buffer): number => Math.floor((wal.length - 32) / FRAME_BYTES);

describe('a damaged WAL', () => {
  test('wherever bytes of it are hurt: everything is there once, under the same places, or a gap says that something is gone', () => {
    const { database, wal, held } = crashed();
    let mended = 0;
    const hurt = fc.record({ at: fc.double({ min: 0, max: 0.6, noNaN: true }), bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }) });
    fc.assert(
      fc.property(fc.array(hurt, { minLength: 1, maxLength: 4 }), (hurts) => {
        const damaged = Buffer.from(wal);
        for (const { at, bytes } of hurts) damaged.set(bytes, Math.floor(at * wal.length));
        if (damaged.equals(wal)) return;
        const after = drained({ database, wal: damaged });
        expect(new Set(after.readings).size).toBe(after.readings.length);
        expect(after.readings.filter((reading) => !held.readings.includes(reading))).toEqual([]);
        if (after.exceptions.length === 0) {
          mended++;
          expect(after.readings.sort()).toEqual([...held.readings].sort());
          expect(after.seqs).toEqual(held.seqs);
        } else {
          expect(after.quarantined).toBe(true);
          expect(after.exceptions.some(({ kind, readingCount }) => kind === 'gap' && readingCount === null)).toBe(true);
        }
      }),
      { numRuns: 25 },
    );
    expect(mended).toBeGreaterThan(0);
  });

  test('of which any one frame is gone, page, number, salts or checksum, loses at most what that frame alone had', () => {
    const { wal } = crashed();
    const frames = frameCount(wal);
    let whole = 0;
    for (let frame = 0; frame < frames - 30; frame += 1 + Math.floor(frames / 40)) {
      for (const [offset, length] of [
        [24 + 100, 50],
        [0, 4],
        [9, 3],
        [16, 8],
      ] as const) {
        const damaged = Buffer.from(wal);
        const at = 32 + frame * FRAME_BYTES + offset;
        for (let byte = at; byte < at + length; byte++) damaged[byte] ^= 0x5a;
        const report = examineWal(damaged, PAGE_BYTES);
        expect(report).not.toBeNull();
        // Only a page can be missing; what stands beside it follows from the checksums.
        if (offset < 24) expect(report).toMatchObject({ isWhole: true, badFrames: 0 });
        else expect(report?.badFrames).toBe(1);
        if (report?.isWhole === true) whole++;
        if (report !== null) expect(examineWal(report.mended, PAGE_BYTES)).toBeNull();
        if (offset < 24 && report !== null) expect(report.mended.equals(wal.subarray(0, report.mended.length))).toBe(true);
      }
    }
    expect(whole).toBeGreaterThan(80);
  });

  test('without its header is mended too', () => {
    const { database, wal, held } = crashed();
    const damaged = Buffer.from(wal);
    damaged.fill(0xee, 0, 24);
    const after = drained({ database, wal: damaged });
    expect(after.exceptions).toEqual([]);
    expect(after.readings.sort()).toEqual([...held.readings].sort());
  });

  test('that ends in a commit which was interrupted is no damage, whichever of its frames reached the disk', () => {
    const { wal } = crashed();
    expect(examineWal(wal, PAGE_BYTES)).toBeNull();
    const commits = Array.from({ length: frameCount(wal) }, (_, index) => index).filter(
      (index) =>
        wal.readUInt32BE(32 + index * FRAME_BYTES + 4) > 0 &&
        wal.subarray(16, 24).equals(wal.subarray(40 + index * FRAME_BYTES, 48 + index * FRAME_BYTES)),
    );
    const [before, last] = [commits.at(-2) as number, commits.at(-1) as number];
    for (let frame = before + 1; frame <= last; frame++) {
      const torn = Buffer.from(wal);
      torn.fill(0, 32 + frame * FRAME_BYTES + 24, 32 + (frame + 1) * FRAME_BYTES);
      expect(examineWal(torn, PAGE_BYTES)).toBeNull();
    }
  });

  test('that could be mended in part is remembered as damage, although the start that mended it was interrupted', () => {
    const { database, wal } = crashed();
    const directory = temporaryDirectory();
    writeFileSync(databaseOf(directory), database);
    const damaged = Buffer.from(wal);
    // A page and everything that replaces it later.
    const page = wal.subarray(32, 36);
    for (let at = 32; at + FRAME_BYTES <= wal.length; at += FRAME_BYTES)
      if (wal.subarray(at, at + 4).equals(page)) damaged.fill(1, at + 30, at + 90);
    writeFileSync(walOf(directory), damaged);
    expect(repairWal(walOf(directory), PAGE_BYTES)).toBe('damaged');
    expect(readFileSync(`${walOf(directory)}.damaged`).equals(damaged)).toBe(true);
    const held = drain(openJournal(directory));
    expect(held.exceptions.some(({ reason }) => reason.startsWith('journal_corrupt'))).toBe(true);
    expect(existsSync(`${walOf(directory)}.damaged`)).toBe(false);
  });
});

describe('the gap of a damaged journal', () => {
  test('covers event times that lie before their arrival, as far as any that the journal took', () => {
    const directory = temporaryDirectory();
    const clock = new ManualClock(START_US);
    const journal = openJournal(directory, { clock });
    const lateUs = START_US - 7_200_000_000;
    journal.commit(
      groupOf([[{ series: 0, value: 1, eventTimeUs: lateUs }], [{ series: 0, value: 2, eventTimeUs: START_US + 100_000_000 }]], 0),
    );
    journal.close();
    clock.advance(10_000_000);
    writeFileSync(databaseOf(directory), 'not a database');
    const { exceptions } = drain(openJournal(directory, { clock }));
    expect(exceptions).toMatchObject([{ kind: 'gap', device: null, readingCount: null }]);
    expect(exceptions[0].fromUs).toBeLessThanOrEqual(lateUs);
    expect(exceptions[0].fromUs).toBeGreaterThan(lateUs - 3 * 7_200_000_000);
    expect(exceptions[0].toUs).toBeGreaterThan(START_US + 100_000_000);
  });

  test('covers everything since 2015 when nothing tells what there was', () => {
    const directory = temporaryDirectory();
    writeFileSync(databaseOf(directory), 'not a database');
    expect(drain(openJournal(directory)).exceptions[0].fromUs).toBe(Date.UTC(2015, 0, 1) * 1000);
  });

  test('forgets late times and what is old once nothing of it is held', () => {
    const directory = temporaryDirectory();
    const clock = new ManualClock(START_US);
    const first = openJournal(directory, { clock });
    first.commit(groupOf([[{ series: 0, value: 1, eventTimeUs: START_US - 30 * 86_400_000_000 }]], 0));
    first.tick();
    first.close();
    clock.advance(60_000_000);
    const next = openJournal(directory, { clock });
    drain(next);
    for (const { epoch, lane, assigned } of next.lanes()) next.free(epoch, lane, assigned);
    clock.advance(7_200_000_000);
    next.tick();
    next.close();
    writeFileSync(databaseOf(directory), 'not a database');
    const { exceptions } = drain(openJournal(directory, { clock }));
    expect(exceptions[0].fromUs).toBeGreaterThan(START_US);
  });

  test('is not narrowed by a file of bounds that cannot be believed', () => {
    const directory = temporaryDirectory();
    openJournal(directory).close();
    const file = path.join(directory, 'bounds.json');
    expect(statSync(file).size).toBeGreaterThan(0);
    writeFileSync(file, readFileSync(file, 'utf8').replace(/"lagUs":\d+/, '"lagUs":1'));
    copyFileSync(file, databaseOf(directory));
    expect(drain(openJournal(directory)).exceptions[0].fromUs).toBe(Date.UTC(2015, 0, 1) * 1000);
  });
});
