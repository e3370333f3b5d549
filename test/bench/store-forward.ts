/**
 * The whole way from a device to the centre: gateway and hub against a mosquitto that bridges to a mosquitto.
 *
 * Both edges acknowledge at QoS 1 and keep what the centre has not confirmed; all bytes between them go through a relay
 * that counts. Ends when everything that was acknowledged has arrived: in the lake, or at a QoS 1 subscriber of the centre.
 */
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { runLoad, type LoadResult, type LoadSpec } from './load.ts';
import { MqttCounter } from './mqtt-counter.ts';
import { NODE_RED_INSTALL, startNodeRed } from './node-red.ts';
import { absentNote, startMosquitto } from './peers.ts';
import { scrape, until, withSite, type Program, type Site, type Usage } from './processes.ts';
import { WireMeter } from './wire-meter.ts';

const READINGS_PER_MESSAGE = 4;
const ARRIVAL_MS_MAX = 180_000;
/** Shorter than the default of 5 s, so that the wait for the last commit is not most of what is measured. */
const COMMIT_INTERVAL_MS = 1_000;

const SLUICE = 'Sluice: gateway and hub';
const MOSQUITTO = 'mosquitto bridge to mosquitto';
const NODE_RED = 'Node-RED with an SQLite queue';
/** It falls behind a closed loop by so much that more would only be a longer wait. */
const NODE_RED_LOAD = { perSecond: 4_000, seconds: 2 } as const;

interface Case {
  readonly name: string;
  readonly load: Partial<LoadSpec>;
}

function casesOf(isShort: boolean): Case[] {
  return [
    { name: '20 × 100, 4 readings per message', load: { clients: 20, inFlight: 100, seconds: isShort ? 3 : 12 } },
    { name: '250 devices, 1,000 readings/s', load: { clients: 250, perSecond: 250, seconds: isShort ? 5 : 30 } },
  ];
}

interface Pair {
  readonly edge: Program;
  readonly centre: Program;
  readonly port: number;
  readonly meter: WireMeter;
  /** Messages or readings that have arrived. */
  arrivedReadings(): Promise<number>;
  close(): void;
}

async function startSluice(site: Site): Promise<Pair> {
  const token = await site.gatewayToken('gateway');
  const hub = await site.hub(['--commit-interval-ms-min', String(COMMIT_INTERVAL_MS)]);
  const meter = await WireMeter.start(hub.port);
  const gateway = await site.gateway('gateway', { uplink: { url: `http://127.0.0.1:${meter.port}`, token } });
  return {
    edge: gateway.program,
    centre: hub.program,
    port: gateway.mqttPort,
    meter,
    arrivedReadings: async () => (await scrape(hub.url)).get('sluice_hub_readings_committed_total') ?? 0,
    close: () => meter.close(),
  };
}

async function startBridge(site: Site): Promise<Pair | null> {
  const centre = await startMosquitto(site, { name: 'centre', persistent: false });
  if (centre === null) return null;
  const meter = await WireMeter.start(centre.port);
  const counter = await MqttCounter.subscribe(centre.port, 'devices/#');
  const lines = [
    ...['connection centre', `address 127.0.0.1:${meter.port}`, 'topic devices/# out 1', 'cleansession false'],
    ...['bridge_protocol_version mqttv311', 'try_private false', 'notifications false', 'restart_timeout 1'],
  ];
  const edge = await startMosquitto(site, { name: 'edge', persistent: true, lines });
  if (edge === null) return null;
  return {
    edge: edge.program,
    centre: centre.program,
    port: edge.port,
    meter,
    arrivedReadings: () => Promise.resolve(counter.messages * READINGS_PER_MESSAGE),
    close: () => {
      counter.close();
      meter.close();
    },
  };
}

async function startNodeRedPair(site: Site): Promise<Pair | null> {
  const centre = await startMosquitto(site, { name: 'centre', persistent: false });
  const edge = await startMosquitto(site, { name: 'edge', persistent: true });
  if (centre === null || edge === null) return null;
  const meter = await WireMeter.start(centre.port);
  const nodeRed = await startNodeRed(site, { edgePort: edge.port, centrePort: meter.port });
  if (nodeRed === null) {
    meter.close();
    return null;
  }
  const counter = await MqttCounter.subscribe(centre.port, 'devices/#');
  return {
    edge: nodeRed,
    centre: centre.program,
    port: edge.port,
    meter,
    arrivedReadings: () => Promise.resolve(counter.messages * READINGS_PER_MESSAGE),
    close: () => {
      counter.close();
      meter.close();
    },
  };
}

interface Subject {
  readonly name: string;
  readonly start: (site: Site) => Promise<Pair | null>;
  readonly absent: string;
}

const SUBJECTS: readonly Subject[] = [
  { name: SLUICE, start: startSluice, absent: '' },
  { name: MOSQUITTO, start: startBridge, absent: absentNote('mosquitto') },
  { name: NODE_RED, start: startNodeRedPair, absent: `Node-RED is not installed, so its figures are missing (\`${NODE_RED_INSTALL}\`).` },
];

interface Outcome {
  readonly load: LoadResult;
  readonly arrivedSeconds: number;
  readonly before: readonly [Usage, Usage];
  readonly after: readonly [Usage, Usage];
  readonly wireBytes: number;
}

async function run(pair: Pair, site: Site, spec: Partial<LoadSpec>): Promise<Outcome> {
  const before = [pair.edge.usage(), pair.centre.usage()] as const;
  const wireBefore = pair.meter.upBytes + pair.meter.downBytes;
  const load = await runLoad(site, { ...spec, port: pair.port, readings: READINGS_PER_MESSAGE });
  const loadedMs = performance.now();
  const readings = load.messagesTotal * READINGS_PER_MESSAGE;
  await until('everything to arrive', async () => (await pair.arrivedReadings()) >= readings, ARRIVAL_MS_MAX, 50);
  const arrivedSeconds = load.secondsTotal + (performance.now() - loadedMs) / 1000;
  site.measured(arrivedSeconds);
  return {
    load,
    arrivedSeconds,
    before,
    after: [pair.edge.usage(), pair.centre.usage()],
    wireBytes: pair.meter.upBytes + pair.meter.downBytes - wireBefore,
  };
}

function record(samples: Samples, name: string, subject: string, { load, arrivedSeconds, before, after, wireBytes }: Outcome): void {
  const readings = load.messagesTotal * READINGS_PER_MESSAGE;
  samples.add(name, subject, 'acknowledged', 'readings/s', (load.messages * READINGS_PER_MESSAGE) / load.seconds);
  samples.add(name, subject, 'arrived', 'readings/s', readings / arrivedSeconds);
  samples.add(name, subject, 'on the wire', 'B/reading', wireBytes / readings);
  for (const [index, place] of (['edge', 'centre'] as const).entries()) {
    samples.add(name, subject, `CPU, ${place}`, 's per million', (after[index].cpuSeconds - before[index].cpuSeconds) / (readings / 1e6));
    samples.add(name, subject, `resident, ${place}`, 'MB', after[index].residentBytesMax / 1e6);
    samples.add(name, subject, `written, ${place}`, 'B/reading', (after[index].writtenBytes - before[index].writtenBytes) / readings);
  }
}

export async function benchStoreForward({ rounds, isShort, profileDir, log }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const notes = new Set<string>();
  for (let round = 0; round < rounds; round++) {
    for (const { name, load } of casesOf(isShort)) {
      for (const subject of SUBJECTS) {
        if (subject.name !== SLUICE && isShort && profileDir !== null) continue; // peers are not looked into
        await withSite(profileDir, async (site) => {
          const pair = await subject.start(site);
          if (pair === null) return notes.add(subject.absent);
          try {
            const isBounded = subject.name === NODE_RED && load.perSecond === undefined;
            const outcome = await run(pair, site, isBounded ? { ...load, ...NODE_RED_LOAD } : load);
            if (outcome.load.closed > 0)
              throw new Error(`${subject.name} closed ${outcome.load.closed} connections: what it stored is not known`);
            record(samples, name, subject.name, outcome);
            log(
              `round ${round + 1}: ${name}: ${subject.name}: ${outcome.load.messagesTotal * READINGS_PER_MESSAGE} readings in ${outcome.arrivedSeconds.toFixed(1)} s`,
            );
          } finally {
            pair.close();
          }
        });
      }
    }
  }
  for (const { name } of casesOf(isShort)) {
    for (const metric of ['arrived', 'on the wire', 'written, edge', 'CPU, edge']) {
      samples.compare(name, SLUICE, metric, MOSQUITTO);
      samples.compare(name, SLUICE, metric, NODE_RED);
    }
  }
  return {
    figures: samples.figures(),
    method:
      `Devices publish at QoS 1, four readings a message: once in a closed loop as fast as the edge acknowledges, once at the pace of a small fleet. The hub commits at most every ${COMMIT_INTERVAL_MS} ms, the gateway seals every 2 s. ` +
      'The edge mosquitto writes its queue to disk every second and acknowledges before that; the central one keeps nothing and has one QoS 1 subscriber that counts. ' +
      `Node-RED takes from such an edge mosquitto, which acknowledges to the devices; in place of the closed loop it gets ${NODE_RED_LOAD.perSecond} messages a second for ${NODE_RED_LOAD.seconds} s, and edge figures are those of Node-RED alone. ` +
      'Arrived: until the last reading is in the lake, or at that subscriber. Written: what the process made the kernel write, from /proc/PID/io. The wire is counted by a relay, both directions.',
    notes: [...notes],
    chart: { metric: 'arrived', title: 'Readings per second from device to centre' },
  };
}
