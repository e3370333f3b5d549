/**
 * Bytes that reach the block device for each reading of single-reading messages: the journal of a gateway on an ext4 file
 * system of its own in a loop-mounted image, counted by the kernel at that device.
 *
 * Counted is everything from after the warm-up until the gateway has stopped and the file system is synced, so also the
 * seal, positions, frees, redelivery keys, ext4's own journal, and the checkpoint of all that the WAL holds. The hub and
 * its lake are on another disk.
 *
 * `SLUICE_BENCH_SQLITE_ADDON`: path of a better_sqlite3.node for this Node that is compiled with HAVE_FDATASYNC, as the
 * packages have it; all cases are measured with it too. npm's build commits the journal of the file system with each fsync.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { flashDeviceOf, type FlashDevice } from '../../gateway/flash-device.ts';
import { LoopDisk } from '../faults/loop-disk.ts';
import { missing } from '../faults/needs.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { runLoad } from './load.ts';
import { scrape, until, withSite } from './processes.ts';

const ADDON_ENV = 'SLUICE_BENCH_SQLITE_ADDON';
const NPM_BUILD = "npm's build";
const PACKAGE_BUILD = 'with fdatasync';
const DISK_MEGABYTES = 256;
/** After start-up, the first commits and the growth of the WAL. */
const WARMUP_SECONDS = 5;
const DAY_SECONDS = 86_400;
const ARRIVAL_MS_MAX = 60_000;

interface Case {
  readonly name: string;
  readonly perSecond: number;
  readonly clients: number;
  readonly seconds: number;
  readonly args: readonly string[];
  readonly bytesPerReadingMax: number | null;
  readonly bytesPerDayMax: number | null;
  readonly ackMsMax: number | null;
}

/** A budget that is always overdrawn: acks are delayed as far as they may be. */
const tight = (ackLatencyMsMax: number): string[] => [
  '--journal-flash-bytes-per-day-max',
  '1',
  '--journal-ack-latency-ms-max',
  String(ackLatencyMsMax),
];
const OPEN = ['--journal-flash-bytes-per-day-max', '0'];

function casesOf(isShort: boolean): Case[] {
  const seconds = isShort ? 15 : 60;
  const quick = { clients: 50, perSecond: 1_000, seconds };
  return [
    { ...quick, name: '1,000/s, no budget', args: OPEN, bytesPerReadingMax: null, bytesPerDayMax: null, ackMsMax: null },
    { ...quick, name: '1,000/s, acks within 20 ms', args: tight(20), bytesPerReadingMax: 300, bytesPerDayMax: null, ackMsMax: null },
    { ...quick, name: '1,000/s, acks within 1 s', args: tight(1_000), bytesPerReadingMax: 25, bytesPerDayMax: null, ackMsMax: 1_000 },
    {
      name: '10/s, acks within 1 s',
      perSecond: 10,
      clients: 10,
      seconds,
      args: tight(1_000),
      bytesPerReadingMax: null,
      bytesPerDayMax: 0.8e9,
      ackMsMax: 1_000,
    },
  ];
}

interface Run {
  readonly bytes: number;
  readonly processBytes: number;
  readonly readings: number;
  readonly seconds: number;
  readonly ackP99Ms: number;
  readonly commits: number;
}

/** Makes a process load the given add-on in place of the installed one, in all its threads. */
function addonHook(directory: string, addon: string): NodeJS.ProcessEnv {
  const hook = path.join(directory, 'addon-hook.cjs');
  writeFileSync(
    hook,
    `const open = process.dlopen;
process.dlopen = (module, file, ...rest) => open.call(process, module, file.endsWith('better_sqlite3.node') ? ${JSON.stringify(addon)} : file, ...rest);\n`,
  );
  return { NODE_OPTIONS: `--require ${hook}` };
}

function runCase(mount: string, disk: LoopDisk, device: FlashDevice, addon: string | null, testCase: Case): Promise<Run> {
  return withSite(null, async (site) => {
    const dataDir = path.join(mount, 'gateway');
    const token = await site.gatewayToken('gateway');
    const hub = await site.hub();
    const gateway = await site.gateway('gateway', {
      dataDir,
      uplink: { url: hub.url, token },
      args: testCase.args,
      ...(addon === null ? {} : { env: addonHook(site.directory, addon) }),
    });
    const { clients, perSecond } = testCase;
    const load = { port: gateway.mqttPort, clients, perSecond, readings: 1, warmupSeconds: 0 };
    await runLoad(site, { ...load, seconds: WARMUP_SECONDS, prefix: 'warm' });
    disk.sync();
    const before = {
      bytes: device.writtenBytes(),
      metrics: await scrape(gateway.httpUrl),
      usage: gateway.program.usage(),
      ms: performance.now(),
    };
    const result = await runLoad(site, { ...load, seconds: testCase.seconds, prefix: 'load' });
    const metrics = await scrape(gateway.httpUrl);
    const of = (name: string): number => (metrics.get(name) ?? NaN) - (before.metrics.get(name) ?? NaN);
    const readings = of('sluice_gateway_readings_total');
    await until(
      'the hub to have it all',
      async () => (await scrape(gateway.httpUrl)).get('sluice_gateway_batches') === 0,
      ARRIVAL_MS_MAX,
      500,
    );
    const seconds = (performance.now() - before.ms) / 1000;
    const { writtenBytes: processBytes } = gateway.program.usage();
    await gateway.program.stop();
    disk.sync();
    return {
      bytes: device.writtenBytes() - before.bytes,
      processBytes: processBytes - before.usage.writtenBytes,
      readings,
      seconds,
      ackP99Ms: result.p99Ms,
      commits: of('sluice_gateway_journal_commits_total'),
    };
  });
}

export async function benchFlash({ rounds, isShort, log }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const notes: string[] = [];
  const absent = missing(['loop devices']);
  const addon = process.env[ADDON_ENV] ?? null;
  if (absent !== null) notes.push(`Not measured: ${absent}.`);
  else if (addon === null) notes.push(`Without ${ADDON_ENV}: only ${NPM_BUILD} of better-sqlite3 was measured.`);
  const builds = [[NPM_BUILD, null] as const, ...(addon === null ? [] : [[PACKAGE_BUILD, addon] as const])];
  for (let round = 0; absent === null && round < rounds; round++) {
    for (const testCase of casesOf(isShort)) {
      for (const [name, file] of builds) {
        log(`${testCase.name}, ${name}`);
        const run = await onDisk((disk, device) => runCase(disk.mountPoint, disk, device, file, testCase));
        const perReading = run.bytes / run.readings;
        const perDay = (run.bytes / run.seconds) * DAY_SECONDS;
        samples.add(testCase.name, name, 'at the device', 'B/reading', perReading);
        samples.add(testCase.name, name, 'by the process', 'B/reading', run.processBytes / run.readings);
        samples.add(testCase.name, name, 'at this rate', 'GB/day', perDay / 1e9);
        samples.add(testCase.name, name, 'ack p99', 'ms', run.ackP99Ms);
        samples.add(testCase.name, name, 'per commit', 'readings', run.readings / run.commits);
        if (name !== PACKAGE_BUILD && addon !== null) continue;
        if (testCase.bytesPerReadingMax !== null)
          samples.want(testCase.name, name, 'at the device', { of: 'value', atMost: testCase.bytesPerReadingMax });
        if (testCase.bytesPerDayMax !== null)
          samples.want(testCase.name, name, 'at this rate', { of: 'value', atMost: testCase.bytesPerDayMax / 1e9 });
        if (testCase.ackMsMax !== null) samples.want(testCase.name, name, 'ack p99', { of: 'value', atMost: testCase.ackMsMax });
      }
    }
  }
  return {
    figures: samples.figures(),
    method:
      'A gateway whose data directory is an ext4 file system in a loop-mounted image, with a hub on another disk; QoS 1 messages of one reading at a fixed rate. ' +
      'Bytes are those that the kernel counts at the loop device from after a warm-up until the gateway has stopped and the file system is synced.',
    notes,
    chart: null,
  };
}

async function onDisk<T>(use: (disk: LoopDisk, device: FlashDevice) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-flash-'));
  const disk = LoopDisk.create(path.join(directory, 'image'), path.join(directory, 'mount'), DISK_MEGABYTES);
  try {
    const device = flashDeviceOf(disk.mountPoint);
    if (device === null) throw new Error(`the loop device under ${disk.mountPoint} is not shown by /sys`);
    disk.sync();
    return await use(disk, device);
  } finally {
    disk.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
