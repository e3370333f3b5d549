import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { workerUrl } from '../../shared/worker-url.ts';
import { crashCopy, drain, groupOf, openJournal, START_US, temporaryDirectory } from './journal-fixture.ts';
import type { Journal } from './journal.ts';
import { RedeliveryKeys } from './redelivery.ts';

/** Runs the child until it has acknowledged a few, kills it, answers what it acknowledged. */
function killed(directory: string, first: number, acknowledgements: number): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [fileURLToPath(workerUrl(import.meta.url, './journal-kill-child')), directory, String(first)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output.split('\n').length > acknowledgements) child.kill('SIGKILL');
    });
    child.on('close', (_code, signal) => {
      if (signal === 'SIGKILL') resolve(output.split('\n').slice(0, -1).map(Number));
      else reject(new Error(`the child ended by itself: ${errors}`));
    });
  });
}

test(
  'whatever was acknowledged is there once after kill -9, again and again, and so are the redelivery keys',
  { timeout: 30_000 },
  async () => {
    const directory = temporaryDirectory();
    const acknowledged: number[] = [];
    for (let kill = 0; kill < 5; kill++) acknowledged.push(...(await killed(directory, 1 + kill * 1_000_000, 100 + kill * 211)));
    expect(acknowledged.length).toBeGreaterThan(1000);
    const journal = openJournal(directory, { clock: new ManualClock(Date.now() * 1000) });
    const keys = new RedeliveryKeys();
    keys.replay(journal.keysSnapshot());
    const unknown = acknowledged.filter((number) => keys.groupOf(`c${number % 50}`, number % 65_536, number) === null);
    expect(unknown).toEqual([]);
    const { readings, exceptions } = drain(journal);
    const stored = new Set(readings);
    expect(exceptions).toEqual([]);
    expect(stored.size).toBe(readings.length);
    expect(acknowledged.filter((number) => !stored.has(`d=${number}`))).toEqual([]);
  },
);

/** What the journal must hold: every reading once, in no lane twice, whatever happens in between. */
interface Model {
  journal: Journal;
  directory: string;
  readonly clock: ManualClock;
  next: number;
  /** Committed and not freed. */
  readonly held: Set<number>;
  /** Positions by lane: what was ever offered there, seq → readings. */
  readonly offered: Map<string, string>;
  readonly epochs: Set<string>;
}

type Action = { readonly kind: 'commit' | 'seal' | 'offer' | 'free' | 'crash' | 'close' | 'fork'; readonly size: number };

const action: fc.Arbitrary<Action> = fc.record({
  kind: fc.constantFrom('commit', 'commit', 'commit', 'seal', 'offer', 'offer', 'free', 'crash', 'close', 'fork'),
  size: fc.integer({ min: 1, max: 5 }),
});

function perform(model: Model, { kind, size }: Action): void {
  const { journal, clock } = model;
  clock.advance(1_000_000);
  if (kind === 'commit') {
    const numbers = Array.from({ length: size }, () => model.next++);
    journal.commit(
      groupOf(
        numbers.map((value) => [{ series: value % 8, value }]),
        clock.monotonicUs(),
      ),
    );
    for (const number of numbers) model.held.add(number);
  } else if (kind === 'seal') {
    journal.tick();
  } else if (kind === 'offer') {
    for (const { epoch, lane, base } of journal.lanes()) {
      for (const batch of journal.offer(epoch, lane, base - 1 + (size % 2), size * 200)) {
        const position = `${epoch}/${lane}/${batch.seq}`;
        const body = Buffer.from(batch.body).toString('base64');
        // What was offered once at a position is what is offered there for ever, also after a crash.
        expect(model.offered.get(position) ?? body).toBe(body);
        model.offered.set(position, body);
      }
    }
  } else if (kind === 'free') {
    const [lane] = journal.lanes();
    if (lane === undefined) return;
    const freed = journal.offer(lane.epoch, lane.lane, lane.base - 1, 1);
    for (const { body } of freed) model.offered.set(`${lane.epoch}/${lane.lane}/${lane.base}`, Buffer.from(body).toString('base64'));
    const before = new Set(numbersOf(journal));
    journal.free(lane.epoch, lane.lane, lane.base);
    const after = new Set(numbersOf(journal));
    for (const number of before) if (!after.has(number)) model.held.delete(number);
    expect(before.size - after.size).toBe(freed.reduce((sum, { readingCount }) => sum + readingCount, 0));
  } else if (kind === 'fork') {
    journal.startNewEpoch();
    model.epochs.add(journal.epoch);
  } else {
    if (kind === 'close') journal.close();
    const copy = temporaryDirectory();
    crashCopy(model.directory, copy);
    journal.close();
    model.directory = copy;
    model.journal = openJournal(copy, { clock });
    expect(model.epochs.has(model.journal.epoch)).toBe(false);
    model.epochs.add(model.journal.epoch);
  }
  expect(model.journal.state().backlog.readings).toBe(model.held.size);
}

function numbersOf(journal: Journal): number[] {
  return drain(journal).readings.map((reading) => Number(reading.split('=')[1]));
}

describe('the buffer', () => {
  test('equals its model under crash', { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(fc.array(action, { minLength: 4, maxLength: 14 }), (actions) => {
        const directory = temporaryDirectory();
        const clock = new ManualClock(START_US);
        const journal = openJournal(directory, { clock });
        const model: Model = { journal, directory, clock, next: 0, held: new Set(), offered: new Map(), epochs: new Set([journal.epoch]) };
        for (const each of actions) perform(model, each);
        model.journal.tick();
        const { readings, exceptions } = drain(model.journal);
        expect(readings.map((reading) => Number(reading.split('=')[1])).sort((a, b) => a - b)).toEqual(
          [...model.held].sort((a, b) => a - b),
        );
        expect(exceptions).toEqual([]);
        model.journal.close();
      }),
      { numRuns: 12 },
    );
  });
});
