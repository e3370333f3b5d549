/**
 * A world of gateways, hubs and devices in one process, from one seed: minutes of faults, then peace, then the verdict.
 *
 * Each seed has its own shape (how many of each, which faults at all, how often): a run in which everything fails at
 * once finds other things than one with a single kind of fault. The same seed makes the same run, event for event.
 */
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { CALM, Network, type Meddling } from './network.ts';
import { MemoryStore } from '../../hub/lake/memory-store.ts';
import { errorMessage } from '../../shared/errors.ts';
import { createLogger } from '../../shared/logging.ts';
import { decodeGatewayMessage, encodeGatewayMessage } from '../../shared/uplink-codec.ts';
import { DEFAULT_WINDOW_DEFINITIONS } from '../../shared/window/definition.ts';
import { SimDevice } from './devices.ts';
import { scheduleFaults, shapeOf, FAULTS_END_US, type Shape } from './faults.ts';
import { SimGateway } from './gateway-process.ts';
import { SimHub } from './hub-process.ts';
import { LakeTruth } from './lake-truth.ts';
import { Ledger, type LedgerEntry } from './ledger.ts';
import type { Target } from './network.ts';
import { SimRandom } from './random.ts';
import { Scheduler, settled, SimProcess, SIM_START_US } from './scheduler.ts';
import { CALM_STORE, type StoreBacking, type StoreConditions } from './store.ts';
import { judge, type Tally } from './verdict.ts';

/** From peace until everything has arrived: many times the longest time-out of the settings below. */
const RECOVERY_US_MAX = 120_000_000;
const CHECK_INTERVAL_US = 2_000_000;

const UPLINK_SETTINGS = {
  handshakeTimeoutMs: 5_000,
  pingIntervalMs: 4_000,
  silenceMsMax: 10_000,
  watchdogMs: 20_000,
  watchdogSlowMsMax: 60_000,
  backoffMsMin: 200,
  backoffMsMax: 5_000,
  stableMs: 10_000,
  laneRetryMs: 8_000,
  drainIdleMs: 3_000,
};

const SERVER_SETTINGS = { helloTimeoutMs: 5_000, idlePositionIntervalMs: 5_000, pingIntervalMs: 4_000, silenceMsMax: 12_000 };

/** One persisted window by series and one by metric; more of either only cost time. */
const DEFINITIONS = DEFAULT_WINDOW_DEFINITIONS.filter(({ name }) => name !== '1h');

const logger = createLogger('sim', 'silent');

export interface SimReport {
  readonly seed: number;
  readonly shape: string;
  readonly error: Error | null;
  readonly tally: Tally | null;
  readonly trace: readonly string[];
  /** Of trace, ledger and counters: equal for equal seeds. */
  readonly fingerprint: string;
  readonly events: number;
  /** Simulated seconds from peace to the last arrival. */
  readonly recoverySeconds: number;
}

/** Loss and repetition of what the protocol can bear to lose or hear twice; damage inside the checksum of a batch. */
const MEDDLING: Meddling = {
  mayLose: (frame) => frame.length > 0,
  damage(frame, random) {
    try {
      const message = decodeGatewayMessage(frame);
      if (message.type !== 'batch') return null;
      const body = new Uint8Array(message.body);
      body[random.between(0, body.length - 1)] ^= 1 << random.between(0, 7);
      return encodeGatewayMessage({ ...message, body });
    } catch {
      return null; // a frame of the hub
    }
  },
};

export class Simulation {
  readonly seed: number;
  readonly shape: Shape;
  readonly scheduler = new Scheduler();
  readonly random: SimRandom;
  readonly network: Network;
  readonly ledger = new Ledger();
  readonly truth = new LakeTruth();
  readonly gateways: SimGateway[];
  readonly hubs: SimHub[];
  readonly devices: SimDevice[] = [];
  readonly #directory: string;
  readonly #trace: string[] = [];
  readonly #backing: StoreBacking & { objects: MemoryStore; conditions: StoreConditions };
  readonly #clock: SimProcess;
  #lakeImage: { readonly objects: ReadonlyMap<string, Uint8Array>; readonly version: number } | null = null;
  #error: Error | null = null;
  #fresh: LedgerEntry[] = [];
  #routes = 0;
  isPeace = false;
  lakeRestores = 0;

  /** @param directory empty or absent; better in memory */
  constructor(seed: number, directory: string) {
    this.seed = seed;
    this.random = new SimRandom(seed);
    this.shape = shapeOf(this.random.stream('shape'));
    this.#directory = directory;
    this.#clock = new SimProcess(this.scheduler, 'world');
    this.network = new Network(this.scheduler, this.random.stream('network'), MEDDLING);
    this.#backing = {
      objects: new MemoryStore(this.#clock),
      conditions: { ...CALM_STORE },
      partials: new Map(),
      created: (key, bytes) => this.guard(() => this.truth.created(key, bytes)),
    };
    this.hubs = Array.from({ length: this.shape.hubs }, (_, index) => this.#newHub(`hub-${index + 1}`));
    this.gateways = Array.from({ length: this.shape.gateways }, (_, index) => this.#newGateway(`gw-${index + 1}`));
  }

  get storeConditions(): StoreConditions {
    return this.#backing.conditions;
  }

  trace(line: string): void {
    this.#trace.push(`${(this.scheduler.nowUs / 1e6).toFixed(3).padStart(9)} ${line}`);
  }

  fail(error: unknown): void {
    this.#error ??= error instanceof Error ? error : new Error(errorMessage(error));
  }

  guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.fail(error);
    }
  }

  async run(): Promise<SimReport> {
    let tally: Tally | null = null;
    let recoverySeconds = 0;
    try {
      for (const hub of this.hubs) hub.start();
      for (const gateway of this.gateways) this.startGateway(gateway);
      this.#addDevices();
      this.#watchCaptures();
      scheduleFaults(this, this.random.stream('faults'));
      await this.#runTo(FAULTS_END_US);
      this.#makePeace();
      recoverySeconds = await this.#recover();
      // While a buffer is still full of what is in flight, a fresh reading may be what has to go: its gap says so.
      if (this.shape.isTight && this.#error === null) {
        this.#publishFresh();
        recoverySeconds += await this.#recover();
      }
      if (this.#error === null) {
        tally = await judge({
          ledger: this.ledger,
          objects: this.#backing.objects,
          truth: this.truth,
          gateways: this.gateways.map(({ name, journal, wasRestored, wasDamaged }) => ({
            name,
            epoch: journal?.epoch ?? '',
            wasRestored,
            wasDamaged,
          })),
          hubs: this.hubs,
          definitions: DEFINITIONS,
          fresh: this.#fresh,
          lakeRestores: this.lakeRestores,
          clock: this.#clock,
          logger,
        });
      }
    } catch (error) {
      this.fail(error);
    }
    const { events } = this.scheduler;
    this.scheduler.clear();
    for (const hub of this.hubs) hub.crash();
    for (const gateway of this.gateways) gateway.crash();
    await settled();
    await settled();
    rmSync(this.#directory, { recursive: true, force: true });
    return {
      seed: this.seed,
      shape: JSON.stringify(this.shape),
      error: this.#error,
      tally,
      trace: this.#trace,
      fingerprint: this.#fingerprint(events),
      events,
      recoverySeconds,
    };
  }

  startGateway(gateway: SimGateway): void {
    gateway.start().catch((error: unknown) => this.fail(error));
  }

  takeLakeImage(): void {
    const { objects } = this.#backing;
    void (async () => {
      const image = new Map<string, Uint8Array>();
      for (const { key } of await objects.list('')) image.set(key, (await objects.get(key)) as Uint8Array);
      this.#lakeImage = { objects: image, version: this.truth.version };
    })();
  }

  /** @returns false: there is no image of it */
  restoreLake(): boolean {
    const image = this.#lakeImage;
    if (image === null || image.version < 0) return false;
    for (const hub of this.hubs) hub.crash();
    const objects = new MemoryStore(this.#clock);
    for (const [key, bytes] of image.objects) void objects.put(key, bytes);
    this.#backing.objects = objects;
    this.truth.restoredTo(image.version);
    this.lakeRestores++;
    return true;
  }

  #newHub(name: string): SimHub {
    const { engine } = this.shape;
    return new SimHub(name, {
      scheduler: this.scheduler,
      random: this.random.stream(name),
      backing: this.#backing,
      truth: this.truth,
      logger,
      engine: {
        ...engine,
        allowedLatenessMs: 0,
        gatewayIdleTimeoutMs: 30_000,
        windowBytesMax: 64_000_000,
        definitions: DEFINITIONS,
        logLevel: 'silent',
      },
      server: { ...SERVER_SETTINGS, pendingBytesMax: this.shape.pendingBytesMax },
      trace: (line) => this.trace(line),
      fail: (error) => this.fail(error),
    });
  }

  #newGateway(name: string): SimGateway {
    return new SimGateway(name, {
      scheduler: this.scheduler,
      random: this.random.stream(name),
      network: this.network,
      ledger: this.ledger,
      truth: this.truth,
      logger,
      directory: this.#directory,
      journal: this.shape.journal,
      uplink: UPLINK_SETTINGS,
      route: () => this.#route(),
      trace: (line) => this.trace(line),
      fail: (error) => this.fail(error),
    });
  }

  /** Mostly the same hub, as a name with one address; sometimes another, as behind a balancer. */
  #route(): Target | null {
    const up = this.hubs.filter(({ target }) => target !== null);
    if (up.length === 0) return null;
    this.#routes++;
    const isSpread = this.random.stream(`route ${this.#routes}`).chance(this.shape.spreadRatio);
    return up[isSpread ? this.#routes % up.length : 0].target;
  }

  #addDevices(): void {
    const random = this.random.stream('devices');
    for (const gateway of this.gateways) {
      for (let index = 1; index <= this.shape.devicesPerGateway; index++) {
        const name = `${gateway.name}-d${index}`;
        const profile = {
          name,
          intervalMs: random.between(300, 2_000),
          readingsPerMessageMax: random.between(1, 5),
          // The first of each gateway is an ordinary one.
          qos: index > 1 && random.chance(0.2) ? (0 as const) : (1 as const),
          hasOwnTime: random.chance(0.8),
          skewUs: index > 1 && random.chance(0.2) ? 3_600_000_000 : random.between(-2_000_000, 2_000_000),
          textLength: this.shape.textLength,
        };
        this.devices.push(
          new SimDevice(profile, { scheduler: this.scheduler, random: random.stream(name), broker: gateway, ledger: this.ledger }),
        );
      }
    }
  }

  #watchCaptures(): void {
    this.scheduler.after(CHECK_INTERVAL_US, () => {
      for (const hub of this.hubs) hub.checkCapture().catch((error: unknown) => this.fail(error));
      this.#watchCaptures();
    });
  }

  #makePeace(): void {
    this.trace('peace');
    this.isPeace = true;
    this.network.conditions = { ...CALM };
    this.network.healAll();
    this.#backing.conditions = { ...CALM_STORE };
    for (const device of this.devices) device.stop();
    for (const hub of this.hubs) {
      hub.stepClock(0);
      if (hub.process === null) hub.start();
    }
    for (const gateway of this.gateways) {
      gateway.setClockRight();
      if (gateway.process === null) this.startGateway(gateway);
    }
    // Once the clocks are learned: a journal stamps what it seals by what it knows then.
    if (!this.shape.isTight) this.scheduler.after(5_000_000, () => this.#publishFresh());
  }

  #publishFresh(): void {
    for (const device of this.devices) {
      if (device.profile.qos === 1 && device.profile.skewUs < 60_000_000) this.#fresh.push(...device.publish(1));
    }
  }

  /** @returns simulated seconds until everything had arrived */
  async #recover(): Promise<number> {
    const startUs = this.scheduler.nowUs;
    await this.#runTo(startUs + 6_000_000);
    while (this.#error === null) {
      const waiting = await this.#waitingFor();
      if (waiting === null) return (this.scheduler.nowUs - startUs) / 1e6;
      if (this.scheduler.nowUs - startUs > RECOVERY_US_MAX)
        throw new Error(`liveness: ${RECOVERY_US_MAX / 1e6} s after the faults ${waiting}`);
      await this.#runTo(this.scheduler.nowUs + 1_000_000);
    }
    return 0;
  }

  /** What has not yet come to rest; null: everything has. */
  async #waitingFor(): Promise<string | null> {
    for (const device of this.devices) if (!device.isDrained) return `${device.profile.name} waits for acks`;
    for (const gateway of this.gateways) {
      if (!(await gateway.isDrained()))
        return `${gateway.name} holds ${JSON.stringify({ backlog: gateway.journal?.backlog(), lanes: await gateway.journal?.lanes() })}`;
    }
    for (const hub of this.hubs) {
      const status = hub.engine?.status();
      if (status === undefined) return `${hub.name} is not up`;
      if (status.pendingReadings > 0) return `${hub.name} has not committed ${status.pendingReadings} readings`;
      if (status.readingsVersion !== this.truth.version)
        return `${hub.name} is at version ${status.readingsVersion} of ${this.truth.version}`;
    }
    return null;
  }

  async #runTo(us: number): Promise<void> {
    while (this.scheduler.nowUs < us && this.#error === null) await this.scheduler.runUntil(Math.min(us, this.scheduler.nowUs + 1_000_000));
  }

  #fingerprint(events: number): string {
    const hash = createHash('sha256');
    for (const line of this.#trace) hash.update(line);
    for (const { value, isAcked, journalledUs, places } of this.ledger.entries.values())
      hash.update(JSON.stringify([value, isAcked, journalledUs, places]));
    return hash
      .update(JSON.stringify([events, this.network.counters, SIM_START_US]))
      .digest('hex')
      .slice(0, 16);
  }
}
