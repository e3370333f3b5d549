/** For journal-crash.test.ts, which kills it: sends messages 1, 2, 3 … through the real journal and prints each number that is acknowledged. */
import { writeSync } from 'node:fs';
import { systemClock } from '../../shared/clock.ts';
import { JournalClient } from './journal-client.ts';

const [directory, first] = process.argv.slice(2) as [string, string];
const client = await JournalClient.open({ directory, clock: systemClock, sealIntervalMs: 20 });
const { writer } = client;
client.onSealed(() => void client.offer(client.epoch, 'live', 0, 1e6));

/** Waits while whoever reads it is behind. */
function print(line: string): void {
  for (;;) {
    try {
      writeSync(1, line);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

let next = Number(first);
function send(): void {
  const number = next++;
  writer.message((sink) => sink.add(writer.series.idOf('d', 'm', ''), NaN, number, null), {
    redelivery: { clientId: `c${number % 50}`, messageId: number % 65_536, hash: number, qos: 1 },
    idempotencyKey: null,
    done: (error) => {
      if (error !== null) throw error;
      print(`${number}\n`);
      setImmediate(send);
    },
  });
}
for (let at = 0; at < 50; at++) send();
