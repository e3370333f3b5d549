/**
 * Durable QoS 1 messages per second through a gateway against brokers that promise less, under the same load, in turn.
 *
 * Shapes are clients × messages in flight. The gateway acknowledges after its group commit is fsynced.
 */
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { perMessageFsync } from './journal.ts';
import { runLoad, type LoadResult } from './load.ts';
import { absentNote, leaveOfflineSubscriber, startMosquitto, startNats } from './peers.ts';
import { withSite, type Program, type Site } from './processes.ts';

interface Shape {
  readonly clients: number;
  readonly inFlight: number;
  /** Wanted ratio to bare aedes at one reading per message. */
  readonly wanted: number | null;
}

const SHAPES: readonly Shape[] = [
  { clients: 20, inFlight: 100, wanted: 0.85 },
  { clients: 200, inFlight: 1, wanted: 0.6 },
  { clients: 2000, inFlight: 1, wanted: 0.85 },
  { clients: 2000, inFlight: 10, wanted: null },
];
const READINGS_PER_MESSAGE = [1, 100];
/** At 2,000 × 1 the compiler of either program is at work for some 60,000 messages: what lasts for months is measured. */
const WARMUP_SECONDS = 4;

const GATEWAY = 'Sluice';
const AEDES = 'aedes, nothing stored';

interface Subject {
  readonly name: string;
  readonly protocol: 'mqtt' | 'nats';
  /** null: not installed. */
  start(site: Site): Promise<{ port: number; program: Program; name?: string } | null>;
}

const SUBJECTS: readonly Subject[] = [
  {
    name: GATEWAY,
    protocol: 'mqtt',
    async start(site) {
      const { mqttPort, program } = await site.gateway('gateway');
      return { port: mqttPort, program };
    },
  },
  {
    name: AEDES,
    protocol: 'mqtt',
    async start(site) {
      const program = site.startOurs('aedes', 'test/bench/bare-aedes.js', [], { stdout: 'pipe' });
      return { port: Number(await program.firstLine()), program };
    },
  },
  { name: 'mosquitto, in memory', protocol: 'mqtt', start: (site) => startMosquitto(site, { name: 'mosquitto', persistent: false }) },
  {
    name: 'mosquitto, persistent queue',
    protocol: 'mqtt',
    async start(site) {
      const broker = await startMosquitto(site, { name: 'mosquitto', persistent: true });
      if (broker !== null) await leaveOfflineSubscriber(broker.port);
      return broker;
    },
  },
  { name: 'NATS JetStream', protocol: 'nats', start: startNats },
];

function caseName({ clients, inFlight }: Shape, readings: number): string {
  return `${clients} × ${inFlight}, ${readings} reading${readings === 1 ? '' : 's'} per message`;
}

function record(samples: Samples, name: string, subject: string, result: LoadResult, program: Program): void {
  samples.add(name, subject, 'messages', '/s', result.messages / result.seconds);
  samples.add(name, subject, 'ack p50', 'ms', result.p50Ms);
  samples.add(name, subject, 'ack p99', 'ms', result.p99Ms);
  samples.add(name, subject, 'resident', 'MB', program.usage().residentBytesMax / 1e6);
}

export async function benchBrokerIngest({ rounds, isShort, profileDir, log }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const notes = new Set<string>();
  const seconds = isShort && profileDir === null ? 2 : 4;
  const cases = SHAPES.flatMap((shape) => READINGS_PER_MESSAGE.map((readings) => ({ shape, readings }))).filter(
    ({ shape, readings }) => !isShort || (readings === 1 && shape.inFlight !== 10),
  );
  const names = new Map(SUBJECTS.map((subject) => [subject.name, subject.name]));
  for (let round = 0; round < rounds; round++) {
    for (const { shape, readings } of cases) {
      const name = caseName(shape, readings);
      for (const subject of isShort && profileDir !== null ? SUBJECTS.filter(({ name: ours }) => ours === GATEWAY) : SUBJECTS) {
        await withSite(profileDir, async (site) => {
          const started = await subject.start(site);
          if (started === null) return notes.add(absentNote(subject.name.split(/[ ,]/)[0] === 'NATS' ? 'nats-server' : 'mosquitto'));
          const shown = started.name !== undefined && subject.protocol === 'nats' ? started.name : subject.name;
          names.set(subject.name, shown);
          const result = await runLoad(site, {
            protocol: subject.protocol,
            port: started.port,
            clients: shape.clients,
            inFlight: shape.inFlight,
            readings,
            seconds,
            warmupSeconds: WARMUP_SECONDS,
          });
          site.measured(result.seconds);
          record(samples, name, shown, result, started.program);
          if (result.closed > 0) notes.add(`${shown} closed ${result.closed} of the connections (${name}, round ${round + 1}).`);
          log(`round ${round + 1}: ${name}: ${shown} ${Math.round(result.messages / result.seconds)}/s`);
        });
      }
    }
    const perMessage = await withSite(null, async (site) => perMessageFsync(site.directory, seconds * 500));
    samples.add('one after the other', 'SQLite, a transaction per message', 'messages', '/s', perMessage);
  }
  for (const { shape, readings } of cases) {
    const wanted = readings === 1 && shape.wanted !== null ? { atLeast: shape.wanted } : null;
    samples.compare(caseName(shape, readings), GATEWAY, 'messages', AEDES, wanted);
  }
  return {
    figures: samples.figures(),
    method:
      'Clients publish at QoS 1 in a closed loop, each keeping so many messages unacknowledged, for ' +
      `${seconds} s after ${WARMUP_SECONDS} s of warm-up; every subject gets a process and an empty directory of its own. The gateway acknowledges after its group commit is ` +
      'on the disk. aedes and mosquitto in memory store nothing. mosquitto with a persistent queue keeps everything for a QoS 1 session that is away, and writes it to disk ' +
      'every second, after having acknowledged it. The generator shares the cores with its subject.',
    notes: [
      ...notes,
      ...([...names.values()].includes('NATS JetStream, no fsync before the ack')
        ? ['This nats-server has no `sync_interval: always` (2.10 and later): it acknowledges what is in the page cache.']
        : []),
    ],
    chart: { metric: 'messages', title: 'Acknowledged QoS 1 messages per second' },
  };
}
