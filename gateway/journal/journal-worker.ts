/** The journal's thread: a shell around JournalServer. */
import { randomBytes } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../../shared/clock.ts';
import { asSluiceError } from './database.ts';
import type { WorkerOptions } from './journal-client.ts';
import { StampedClock, toPlain, type JournalReply, type JournalRequest } from './journal-messages.ts';
import { JournalServer } from './journal-server.ts';

const port = parentPort;
if (port === null) throw new Error('journal-worker runs as a worker thread');
const { stamp, boot, ...options } = workerData as WorkerOptions;
// Timers of a retry must keep the thread alive: with systemClock they would not.
const clock = new StampedClock({ ...systemClock, after: (delayMs, callback) => stopper(setTimeout(callback, delayMs)) }, stamp, boot);

function stopper(timer: NodeJS.Timeout): () => void {
  return () => clearTimeout(timer);
}

function post(reply: JournalReply, transfer: readonly ArrayBuffer[]): void {
  port?.postMessage(reply, transfer);
  if (reply.type === 'closed') port?.close();
}

try {
  const server = new JournalServer(
    { ...options, clock, randomHex: (bytes) => randomBytes(bytes).toString('hex') },
    (next) => clock.set(next),
    post,
  );
  port.on('message', (request: JournalRequest) => server.request(request));
} catch (error) {
  post({ type: 'refused', error: toPlain(asSluiceError(error)) }, []);
}
