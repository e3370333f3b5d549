/** Fills the journal of a gateway that is stopped, as an outage of hours would have. */
import path from 'node:path';
import { JournalClient } from '../../gateway/journal/journal-client.ts';
import { ManualClock } from '../../shared/clock.ts';

export interface PastSeries {
  readonly device: string;
  readonly metric: string;
  readonly priority: number;
}

export interface PastOptions {
  readonly endMs: number;
  readonly seconds: number;
  /** One reading a second each. */
  readonly series: readonly PastSeries[];
  readonly valueOf: (second: number, series: number) => number;
}

/** Readings of one group: filling must not take as long as the outage. */
const STEP_SECONDS = 10;

/** @returns how many readings */
export async function fillJournal(dataDir: string, { endMs, seconds, series, valueOf }: PastOptions): Promise<number> {
  const clock = new ManualClock((endMs - seconds * 1000) * 1000);
  const journal = await JournalClient.open({ directory: path.join(dataDir, 'journal'), clock, freeSpaceReserveBytes: 0 });
  const { writer } = journal;
  const ids = series.map(({ device, metric, priority }) => writer.series.idOf(device, metric, '', priority));
  for (let second = 0; second < seconds; second += STEP_SECONDS) {
    const startUs = clock.nowUs();
    await new Promise<void>((resolve, reject) => {
      writer.message(
        (sink) => {
          for (let at = 0; at < STEP_SECONDS; at++)
            ids.forEach((id, index) => sink.add(id, startUs + at * 1_000_000, valueOf(second + at, index), null));
        },
        { redelivery: null, idempotencyKey: null, done: (error) => (error === null ? resolve() : reject(error)) },
      );
    });
    clock.advance(STEP_SECONDS * 1_000_000);
  }
  await journal.seal();
  await journal.close();
  return seconds * series.length;
}
