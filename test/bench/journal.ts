/**
 * The journal alone: QoS 1 messages of four readings from simulated clients through the group commit into SQLite, against
 * one transaction and fsync per message on the same disk and SQLite.
 */
import path from 'node:path';
import { connect } from '../../gateway/journal/database.ts';
import { JournalClient } from '../../gateway/journal/journal-client.ts';
import { messageHash } from '../../gateway/journal/message-hash.ts';
import { systemClock } from '../../shared/clock.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { pause, withSite } from './processes.ts';

const METRICS = ['temperature', 'humidity', 'pressure', 'battery'];
const JOURNAL = 'Sluice journal';
const PER_MESSAGE = 'SQLite, a transaction per message';

interface Run {
  readonly clients: number;
  readonly inFlight: number;
}

const RUNS: readonly Run[] = [
  { clients: 200, inFlight: 1 },
  { clients: 20, inFlight: 100 },
  { clients: 2000, inFlight: 1 },
];

/** Messages per second with a transaction each on SQLite as the journal opens it: what there is without group commit. */
export function perMessageFsync(directory: string, runMs: number): number {
  const db = connect(path.join(directory, 'reference.db'), { pagesMax: 1 << 20, check: false, growWal: true });
  try {
    const insert = db.prepare('INSERT INTO journal (opening, arrival_us, readings, body) VALUES (1, ?, 4, ?)');
    const body = Buffer.alloc(60, 7);
    const startMs = performance.now();
    let messages = 0;
    for (; performance.now() < startMs + runMs; messages++) insert.run(messages, body);
    return messages / ((performance.now() - startMs) / 1000);
  } finally {
    db.close();
  }
}

/** Closed loop on the group commit, as the broker would be with so many clients. */
async function groupCommit(directory: string, { clients, inFlight }: Run, runMs: number) {
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
          walks[at] += Math.round(Math.random() * 4 - 2);
          sink.add(writer.series.idOf(name, metric, ''), nowUs, walks[at] / 100, null);
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
  await pause(runMs);
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
    messagesPerCommit: messages / group.groups,
    ackP99Ms: latenciesMs[Math.floor(latenciesMs.length * 0.99)],
    // Just after a seal there are none.
    rowBytesPerReading: journal.journalReadings === 0 ? null : journal.journalBytes / journal.journalReadings,
    batchBytesPerReading: sealed.batchBytes / sealed.batchReadings,
    sealNsPerReading: (sealed.sealUs * 1000) / sealed.batchReadings,
  };
}

export async function benchJournal({ rounds, isShort }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const runMs = isShort ? 1_000 : 2_500;
  for (let round = 0; round < rounds; round++) {
    const reference = await withSite(null, async (site) => perMessageFsync(site.directory, runMs));
    for (const run of RUNS) {
      const name = `${run.clients} × ${run.inFlight}, 4 readings per message`;
      const result = await withSite(null, (site) => groupCommit(site.directory, run, runMs));
      samples.add(name, PER_MESSAGE, 'messages', '/s', reference);
      samples.add(name, JOURNAL, 'messages', '/s', result.messagesPerSecond);
      samples.compare(name, JOURNAL, 'messages', PER_MESSAGE);
      samples.add(name, JOURNAL, 'per commit', 'messages', result.messagesPerCommit);
      samples.add(name, JOURNAL, 'done p99', 'ms', result.ackP99Ms);
      if (result.rowBytesPerReading !== null) samples.add(name, JOURNAL, 'row', 'B/reading', result.rowBytesPerReading);
      samples.add(name, JOURNAL, 'batch', 'B/reading', result.batchBytesPerReading);
      samples.add(name, JOURNAL, 'seal', 'ns/reading', result.sealNsPerReading);
    }
  }
  return {
    figures: samples.figures(),
    method:
      'The journal in its thread without a broker before it; clients × messages in flight, closed loop. The reference is the same SQLite with the same settings ' +
      'and a transaction, so an fsync, per message: one client at a time can have no more.',
    notes: [],
    chart: { metric: 'messages', title: 'Durable messages per second' },
  };
}
