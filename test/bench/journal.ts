/**
 * The journal alone: QoS 1 messages of four readings from simulated clients through the group commit into SQLite, against
 * one transaction and fsync per message on the same disk and SQLite. Prints ratios; bounded to about 20 s.
 *
 *     npx tsc -p . ; npx tsx test/bench/journal.ts
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { systemClock } from '../../shared/clock.ts';
import { connect } from '../../gateway/journal/database.ts';
import { JournalClient } from '../../gateway/journal/journal-client.ts';
import { messageHash } from '../../gateway/journal/message-hash.ts';

const METRICS = ['temperature', 'humidity', 'pressure', 'battery'];
const RUN_MS = 2_500;

interface Run {
  readonly clients: number;
  readonly inFlight: number;
}

async function withDirectory<T>(run: (directory: string) => Promise<T> | T): Promise<T> {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-bench-journal-'));
  try {
    return await run(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Messages per second with a transaction each: what a journal without group commit could acknowledge. */
function perMessageFsync(directory: string): number {
  const db = connect(path.join(directory, 'reference.db'), { pagesMax: 1 << 20, check: false });
  const insert = db.prepare('INSERT INTO journal (opening, arrival_us, readings, body) VALUES (1, ?, 4, ?)');
  const body = Buffer.alloc(60, 7);
  const endMs = performance.now() + RUN_MS;
  let messages = 0;
  for (; performance.now() < endMs; messages++) insert.run(messages, body);
  db.close();
  return messages / (RUN_MS / 1000);
}

async function groupCommit(directory: string, { clients, inFlight }: Run) {
  const client = await JournalClient.open({ directory, clock: systemClock });
  const { writer } = client;
  const payload = Buffer.from('{"temperature":21.53,"humidity":40.1,"pressure":1013.25,"battery":3.71,"ts":1768478400000}');
  let running = true;
  let acknowledged = 0;
  const latenciesMs: number[] = [];
  const walks = new Float64Array(clients * METRICS.length).fill(2150);
  const send = (device: number, messageId: number): void => {
    const startedMs = performance.now();
    const name = `device-${device}`;
    const nowUs = Date.now() * 1000;
    writer.message(
      (sink) =>
        METRICS.forEach((metric, index) => {
          const at = device * METRICS.length + index;
          walks[at] = (walks[at] as number) + Math.round(Math.random() * 4 - 2);
          sink.add(writer.series.idOf(name, metric, ''), nowUs, (walks[at] as number) / 100, null);
        }),
      {
        redelivery: { clientId: name, messageId, hash: messageHash(`devices/${name}/telemetry`, payload), qos: 1 },
        idempotencyKey: null,
        done: (error) => {
          if (error !== null) throw error;
          acknowledged++;
          if (acknowledged % 16 === 0) latenciesMs.push(performance.now() - startedMs);
          // The next message of a real client comes with another turn of the event loop.
          if (running) setImmediate(send, device, (messageId % 65_535) + 1);
        },
      },
    );
  };
  const startedMs = performance.now();
  for (let device = 0; device < clients; device++) for (let at = 0; at < inFlight; at++) send(device, at + 1);
  await new Promise((resolve) => setTimeout(resolve, RUN_MS));
  running = false;
  const seconds = (performance.now() - startedMs) / 1000;
  const messages = acknowledged;
  const { journal, writer: group } = await client.stats();
  await client.seal();
  const sealed = (await client.stats()).journal;
  await client.close();
  latenciesMs.sort((a, b) => a - b);
  return {
    messagesPerSecond: messages / seconds,
    commitsPerSecond: group.groups / seconds,
    messagesPerCommit: messages / group.groups,
    ackP50Ms: latenciesMs[latenciesMs.length >> 1],
    ackP99Ms: latenciesMs[Math.floor(latenciesMs.length * 0.99)],
    rowBytesPerReading: journal.journalBytes / Math.max(1, journal.journalReadings),
    batchBytesPerReading: sealed.batchBytes / sealed.batchReadings,
    sealNsPerReading: (sealed.sealUs * 1000) / sealed.batchReadings,
  };
}

const reference = await withDirectory(perMessageFsync);
console.log(`a transaction per message: ${reference.toFixed(0)} messages/s`);
for (const run of [
  { clients: 200, inFlight: 1 },
  { clients: 20, inFlight: 100 },
  { clients: 2000, inFlight: 1 },
]) {
  const result = await withDirectory((directory) => groupCommit(directory, run));
  console.log(`${run.clients} clients x ${run.inFlight} in flight: ${(result.messagesPerSecond / reference).toFixed(1)} times that`);
  for (const [name, value] of Object.entries(result))
    console.log(`  ${name.padEnd(22)} ${(value ?? NaN).toFixed(value !== undefined && value < 100 ? 2 : 0)}`);
}
