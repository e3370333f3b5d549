/**
 * A day of a modest fleet on the fake clock: what does not grow, and that nothing is lost or doubled by the end of it.
 *
 * The real journals, uplinks, engines and maintenance run for simulated hours with the maintenance of every ten minutes,
 * short outages of the line, devices that reconnect and one gateway that restarts. At the hours that are asked for,
 * everything settles, garbage is collected, and what is left is counted: JavaScript's heap and the buffers outside of it.
 *
 * What the simulation itself knows must not be counted as the product's: the lake's objects are files, the ledger forgets a
 * reading once it is committed, and two arrays of a fixed size remember which were acknowledged and how often the lake has
 * them.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Lake } from '../../hub/lake/lake.ts';
import { Maintenance, type TableReport } from '../../hub/maintenance.ts';
import { createLogger } from '../../shared/logging.ts';
import { laneAppId } from '../../shared/uplink.ts';
import { DEFAULT_WINDOW_DEFINITIONS } from '../../shared/window/definition.ts';
import { SimDevice } from './devices.ts';
import { FolderStore } from './folder-store.ts';
import { SimGateway } from './gateway-process.ts';
import { SimHub } from './hub-process.ts';
import { LakeTruth } from './lake-truth.ts';
import { Ledger } from './ledger.ts';
import { CALM, Network, type Target } from './network.ts';
import { SimRandom } from './random.ts';
import { Scheduler, settled, SimProcess } from './scheduler.ts';
import { CALM_STORE, SimStore, type StoreBacking } from './store.ts';
import { checkAggregates, readingRows } from './verdict.ts';

const GATEWAYS = 2;
const HUBS = 2;
const DEVICES_PER_GATEWAY = 5;
const PUBLISH_INTERVAL_MS = 30_000;
const READINGS_PER_MESSAGE_MAX = 3;
const READINGS_MAX = 1 << 20;
/** Of the connections, those that go to the second hub: both write the lake and follow each other. */
const SPREAD_RATIO = 0.3;

/** Of removed files, in the lake's own settings; the default of a day would end with the simulation. */
const RETENTION_HOURS = 2;

const MINUTE_US = 60_000_000;
const HOUR_US = 60 * MINUTE_US;
const TIDY_INTERVAL_US = MINUTE_US;
const CAPTURE_INTERVAL_US = MINUTE_US;
const MAINTENANCE_INTERVAL_US = 10 * MINUTE_US;
const OUTAGE_INTERVAL_US = 47 * MINUTE_US;
const OUTAGE_SECONDS_MAX = 90;
const RECONNECT_INTERVAL_US = 7 * MINUTE_US;
const RESTART_INTERVAL_US = 150 * MINUTE_US;
const RESTART_US = 20_000_000;
const RECOVERY_US_MAX = 10 * MINUTE_US;

const ENGINE = {
  commitIntervalMsMin: 20_000,
  commitIntervalMsMax: 60_000,
  commitReadingsMax: 1_000_000,
  commitBytesMax: 64_000_000,
  flushIntervalMs: 60_000,
  windowBytesMax: 64_000_000,
  allowedLatenessMs: 2_000,
  gatewayIdleTimeoutMs: 600_000,
  definitions: DEFAULT_WINDOW_DEFINITIONS,
  logLevel: 'silent',
} as const;

const logger = createLogger('sim', 'silent');
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What is held at an hour, after everything has settled and garbage is collected. */
export interface DayHour {
  readonly hour: number;
  /** Of JavaScript, bytes. */
  readonly heapBytes: number;
  /** Array buffers: columns, slots, batches. */
  readonly bufferBytes: number;
  readonly residentBytes: number;
  readonly readingsCommitted: number;
  readonly windowGroups: number;
  readonly tables: readonly Pick<TableReport, 'name' | 'version' | 'files' | 'tombstones'>[];
}

export interface DayReport {
  readonly hours: readonly DayHour[];
  readonly sent: number;
  readonly acked: number;
  readonly rows: number;
  readonly events: number;
  readonly commits: number;
  readonly outages: number;
  readonly restarts: number;
}

export class SimDay {
  readonly #scheduler = new Scheduler();
  readonly #random: SimRandom;
  readonly #network: Network;
  readonly #ledger = new Ledger();
  readonly #truth = new LakeTruth();
  readonly #clock: SimProcess;
  readonly #backing: StoreBacking;
  readonly #hubs: SimHub[];
  readonly #gateways: SimGateway[];
  readonly #devices: SimDevice[];
  readonly #isAcked = new Uint8Array(READINGS_MAX);
  readonly #copies = new Uint8Array(READINGS_MAX);
  readonly #hours: DayHour[] = [];
  #maintenance: Maintenance | null = null;
  #sent = 0;
  #acked = 0;
  #routes = 0;
  #outages = 0;
  #restarts = 0;
  #isOver = false;
  #error: Error | null = null;

  /** @param directory empty or absent; better in memory */
  constructor(seed: number, directory: string) {
    this.#random = new SimRandom(seed);
    this.#clock = new SimProcess(this.#scheduler, 'world');
    this.#network = new Network(this.#scheduler, this.#random.stream('network'), { mayLose: () => false, damage: () => null });
    this.#network.conditions = { ...CALM };
    const fail = (error: unknown): void => this.#fail(error);
    this.#backing = {
      objects: new FolderStore(path.join(directory, 'lake'), this.#clock),
      conditions: { ...CALM_STORE },
      partials: new Map(),
      created: (key, bytes) => this.#truth.created(key, bytes),
    };
    const common = { scheduler: this.#scheduler, truth: this.#truth, logger, trace: () => undefined, fail };
    this.#hubs = names('hub', HUBS).map(
      (name) => new SimHub(name, { ...common, random: this.#random.stream(name), backing: this.#backing, engine: ENGINE, server: {} }),
    );
    this.#gateways = names('gw', GATEWAYS).map(
      (name) =>
        new SimGateway(name, {
          ...common,
          random: this.#random.stream(name),
          network: this.#network,
          ledger: this.#ledger,
          directory,
          journal: { sealIntervalMs: 10_000 },
          uplink: { heartbeatIntervalMs: 10_000 },
          route: () => this.#route(),
        }),
    );
    this.#devices = [];
  }

  /**
   * @param hours at which memory is counted, ascending; the last one ends the day
   * @param onHour as soon as it is over
   */
  async run(hours: readonly number[], onHour: (hour: DayHour) => void): Promise<DayReport> {
    await this.#makeLake();
    for (const hub of this.#hubs) hub.start();
    for (const gateway of this.#gateways) this.#start(gateway);
    this.#addDevices();
    this.#scheduleDay(this.#random.stream('day'));
    for (const hour of hours) {
      await this.#runTo(hour * HOUR_US);
      const counted = await this.#count(hour);
      this.#hours.push(counted);
      onHour(counted);
    }
    this.#isOver = true;
    for (const device of this.#devices) device.stop();
    await this.#drain();
    const rows = await this.#judge();
    const { events } = this.#scheduler;
    this.#scheduler.clear();
    for (const hub of this.#hubs) hub.crash();
    for (const gateway of this.#gateways) gateway.crash();
    await settled();
    return {
      hours: this.#hours,
      sent: this.#sent,
      acked: this.#acked,
      rows,
      events,
      commits: this.#truth.version,
      outages: this.#outages,
      restarts: this.#restarts,
    };
  }

  #fail(error: unknown): void {
    this.#error ??= error instanceof Error ? error : new Error(String(error));
  }

  #start(gateway: SimGateway): void {
    gateway.start().catch((error: unknown) => this.#fail(error));
  }

  #route(): Target | null {
    const up = this.#hubs.filter(({ target }) => target !== null);
    if (up.length === 0) return null;
    const isSpread = this.#random.stream(`route ${this.#routes++}`).chance(SPREAD_RATIO);
    return up[isSpread ? up.length - 1 : 0].target;
  }

  #addDevices(): void {
    const random = this.#random.stream('devices');
    for (const gateway of this.#gateways) {
      for (const name of names(`${gateway.name}-d`, DEVICES_PER_GATEWAY)) {
        const profile = {
          ...{ name, intervalMs: PUBLISH_INTERVAL_MS, readingsPerMessageMax: READINGS_PER_MESSAGE_MAX, qos: 1 as const },
          ...{ hasOwnTime: true, skewUs: random.between(-2_000_000, 2_000_000), textLength: 0 },
        };
        const parts = { scheduler: this.#scheduler, random: random.stream(name), broker: gateway, ledger: this.#ledger };
        this.#devices.push(new SimDevice(profile, parts));
      }
    }
  }

  #every(intervalUs: number, act: () => void): void {
    this.#scheduler.after(intervalUs, () => {
      if (this.#isOver) return;
      act();
      this.#every(intervalUs, act);
    });
  }

  #scheduleDay(random: SimRandom): void {
    this.#every(TIDY_INTERVAL_US, () => this.#tidy());
    this.#every(CAPTURE_INTERVAL_US, () => {
      const toUs = this.#clock.nowUs();
      const filter = { window: '1m', fromUs: toUs - HOUR_US, toUs, gateways: null, devices: null, metrics: null };
      for (const { engine } of this.#hubs) engine?.captureAggregates(filter);
    });
    this.#every(MAINTENANCE_INTERVAL_US, () => void this.#maintain().catch((error: unknown) => this.#fail(error)));
    this.#every(RECONNECT_INTERVAL_US, () => random.pick(this.#devices).disconnect());
    this.#every(OUTAGE_INTERVAL_US, () => {
      this.#outages++;
      const { name } = random.pick(this.#gateways);
      for (const hub of this.#hubs) this.#network.cut(name, hub.name);
      this.#scheduler.after(random.between(1, OUTAGE_SECONDS_MAX) * 1_000_000, () => {
        for (const hub of this.#hubs) this.#network.heal(name, hub.name);
      });
    });
    // One gateway lives through the day and the other does not: a leak of the one, and of a hub by epochs that come and go.
    this.#every(RESTART_INTERVAL_US, () => {
      const gateway = this.#gateways[GATEWAYS - 1];
      this.#restarts++;
      gateway.crash();
      this.#scheduler.after(RESTART_US, () => this.#start(gateway));
    });
  }

  /** As in the product, one lake of its own for as long as the process lives. */
  async #maintain(): Promise<void> {
    this.#maintenance ??= new Maintenance(await this.#openLake());
    await this.#maintenance.run();
  }

  /** With a retention that is over early in the day: until then tombstones gather, as they should. */
  async #makeLake(): Promise<void> {
    const { objects } = this.#backing;
    await Lake.open(objects, '/lake', { clock: this.#clock, hubId: 'operator', logger });
    for (const { key } of await objects.list('')) {
      if (!key.endsWith('/_delta_log/00000000000000000000.json')) continue;
      const entry = Buffer.from((await objects.get(key)) ?? '').toString('utf8');
      const shortened = Buffer.from(entry.replace('"interval 1 days"', `"interval ${RETENTION_HOURS} hours"`));
      assert.notEqual(shortened.toString('utf8'), entry, `${key} has no retention`);
      await objects.put(key, shortened);
      this.#truth.created(key, shortened);
    }
  }

  #openLake(): Promise<Lake> {
    const random = this.#random.stream('maintenance');
    const process = new SimProcess(this.#scheduler, 'maintenance');
    const store = new SimStore(process, this.#backing, random.stream('store'));
    return Lake.open(store, '/lake', { clock: process, hubId: 'maintenance', logger, uuid: () => random.uuid() });
  }

  /** What is acknowledged and committed is remembered by a bit. */
  #tidy(): void {
    for (const [value, entry] of this.#ledger.entries) {
      const isCommitted = entry.places.some(
        ({ epoch, lane, seq }) => seq <= this.#truth.committed(laneAppId({ gateway: entry.gateway, epoch, lane })),
      );
      if (!entry.isAcked || !isCommitted) continue;
      this.#note(value, true);
      this.#ledger.entries.delete(value);
    }
    this.#truth.forgetPositions();
    this.#backing.partials.clear();
  }

  #note(value: number, isAcked: boolean): void {
    assert(value < READINGS_MAX, `the day has more than ${READINGS_MAX} readings`);
    this.#sent = Math.max(this.#sent, value);
    if (!isAcked) return;
    this.#isAcked[value] = 1;
    this.#acked++;
  }

  async #count(hour: number): Promise<DayHour> {
    this.#tidy();
    for (let turn = 0; turn < 5; turn++) {
      await settled();
      collectGarbage();
    }
    const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
    const engines = this.#hubs.flatMap(({ engine }) => (engine === null ? [] : [engine.status()]));
    const lake = await Lake.open(this.#backing.objects, '/lake', { clock: this.#clock, hubId: 'verdict', logger });
    return {
      hour,
      heapBytes: heapUsed,
      bufferBytes: arrayBuffers,
      residentBytes: rss,
      readingsCommitted: this.#truth.rowsAt(this.#truth.version),
      windowGroups: Math.max(...engines.map(({ windowGroups }) => windowGroups)),
      tables: [lake.readings, lake.aggregates, lake.progress].map(({ spec, snapshot }) => ({
        name: spec.name,
        version: snapshot.version,
        files: snapshot.files.size,
        tombstones: snapshot.tombstones.size,
      })),
    };
  }

  async #drain(): Promise<void> {
    const startUs = this.#scheduler.nowUs;
    for (;;) {
      await this.#runTo(this.#scheduler.nowUs + 5_000_000);
      const { version } = this.#truth;
      const areGatewaysDrained = (await Promise.all(this.#gateways.map((gateway) => gateway.isDrained()))).every((end) => end);
      const areHubsThere = this.#hubs.every(({ engine }) => {
        const status = engine?.status();
        return status?.pendingReadings === 0 && status.readingsVersion === version;
      });
      if (areGatewaysDrained && areHubsThere && this.#devices.every(({ isDrained }) => isDrained)) return;
      assert(this.#scheduler.nowUs - startUs < RECOVERY_US_MAX, 'liveness: the day is over and something is still not committed');
    }
  }

  /** Every reading that was acknowledged is in the lake, once, and every hub's windows are those that its rows make. */
  async #judge(): Promise<number> {
    for (const [value, { isAcked }] of this.#ledger.entries) this.#note(value, isAcked);
    const lake = await Lake.open(this.#backing.objects, '/lake', { clock: this.#clock, hubId: 'verdict', logger });
    const rows = await readingRows(this.#backing.objects, lake);
    for (const { value } of rows) this.#copies[value]++;
    for (let value = 1; value <= this.#sent; value++) {
      const isLost = this.#isAcked[value] === 1 && this.#copies[value] === 0;
      assert(!isLost, `reading ${value} was acknowledged and is not in the lake`);
      assert(this.#copies[value] <= 1, `reading ${value} is ${this.#copies[value]} times in the lake`);
    }
    for (const hub of this.#hubs) await checkAggregates({ definitions: ENGINE.definitions, truth: this.#truth }, hub, rows);
    return rows.length;
  }

  async #runTo(us: number): Promise<void> {
    while (this.#scheduler.nowUs < us) {
      await this.#scheduler.runUntil(Math.min(us, this.#scheduler.nowUs + 1_000_000));
      if (this.#error !== null) throw this.#error;
    }
  }
}

function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${prefix.endsWith('d') ? '' : '-'}${index + 1}`);
}
