/** What goes wrong in a simulation, and when: drawn from the seed before it begins. */
import type { JournalClientOptions } from '../../gateway/journal/journal-client.ts';
import type { SimRandom } from './random.ts';
import type { Simulation } from './simulation.ts';
import { CALM_STORE } from './store.ts';

export const FAULTS_END_US = 50_000_000;
const FAULTS_BEGIN_US = 3_000_000;

export interface Shape {
  readonly gateways: number;
  readonly hubs: number;
  readonly devicesPerGateway: number;
  readonly spreadRatio: number;
  readonly textLength: number;
  /** The buffer is one that an outage of some seconds fills. */
  readonly isTight: boolean;
  readonly pendingBytesMax: number;
  readonly journal: Partial<JournalClientOptions>;
  readonly engine: {
    readonly commitIntervalMsMin: number;
    readonly commitIntervalMsMax: number;
    readonly commitReadingsMax: number;
    readonly commitBytesMax: number;
    readonly flushIntervalMs: number;
  };
  /** Kinds of fault and how often each comes. */
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>;
}

type Inject = (world: Simulation, random: SimRandom) => void;

const seconds = (random: SimRandom, from: number, to: number): number => random.between(from * 1_000_000, to * 1_000_000);

function downFor(world: Simulation, us: number, start: () => void): void {
  // What is still down when the faults end is started by the peace.
  world.scheduler.after(us, () => {
    if (!world.isPeace) start();
  });
}

function crashGateway(world: Simulation, random: SimRandom, crash: (gateway: Simulation['gateways'][number]) => void): void {
  const gateway = random.pick(world.gateways);
  if (gateway.process === null || !gateway.isUp) return;
  crash(gateway);
  downFor(world, seconds(random, 0.05, 10), () => {
    if (gateway.process === null) world.startGateway(gateway);
  });
}

const FAULTS = {
  gatewayCrash: (world, random) =>
    crashGateway(world, random, (gateway) => {
      world.trace(`${gateway.name}: crash`);
      gateway.crash();
    }),
  gatewayImage: (world, random) => {
    const gateway = random.pick(world.gateways);
    if (!gateway.isUp) return;
    world.trace(`${gateway.name}: image of its disk`);
    gateway.takeImage();
  },
  gatewayRestore: (world, random) =>
    crashGateway(world, random, (gateway) => {
      if (gateway.restoreImage()) world.trace(`${gateway.name}: restored from its image`);
      else gateway.crash();
    }),
  journalDamage: (world, random) =>
    crashGateway(world, random, (gateway) => {
      world.trace(`${gateway.name}: crash, and its files are damaged`);
      gateway.crash();
      gateway.damage(random.between(1, 3));
    }),
  clockUnknown: (world, random) =>
    crashGateway(world, random, (gateway) => {
      world.trace(`${gateway.name}: power cut, its clock begins in 1970`);
      gateway.crash();
      gateway.forgetClock();
      world.scheduler.after(seconds(random, 0.1, 20), () => gateway.setClockRight());
    }),
  clockStep: (world, random) => {
    const gateway = random.pick(world.gateways);
    const us = random.pick([-1, 1]) * seconds(random, 1, 4_000);
    world.trace(`${gateway.name}: clock steps by ${(us / 1e6).toFixed(1)} s`);
    gateway.step(us);
  },
  hubCrash: (world, random) => {
    const hub = random.pick(world.hubs);
    world.trace(`${hub.name}: crash`);
    hub.crash();
    downFor(world, seconds(random, 0.05, 10), () => {
      if (hub.process === null) hub.start();
    });
  },
  hubFreeze: (world, random) => {
    const hub = random.pick(world.hubs);
    const us = Math.min(seconds(random, 0.5, 15), FAULTS_END_US - world.scheduler.nowUs);
    world.trace(`${hub.name}: stands still for ${(us / 1e6).toFixed(1)} s`);
    hub.process?.freeze(us);
  },
  hubMaintenance: (world, random) => random.pick(world.hubs).maintain(),
  storeOutage: (world, random) => {
    const until = seconds(random, 0.2, 8);
    const before = { ...world.storeConditions };
    world.trace(`store: away for ${(until / 1e6).toFixed(1)} s`);
    Object.assign(world.storeConditions, { failRatio: 0.7, lostAnswerRatio: 0.25 });
    world.scheduler.after(until, () => {
      if (!world.isPeace) Object.assign(world.storeConditions, { failRatio: before.failRatio, lostAnswerRatio: before.lostAnswerRatio });
    });
  },
  storeTrouble: (world, random) => {
    const conditions = {
      latencyMsMax: random.between(10, 400),
      failRatio: random.next() * 0.05,
      lostAnswerRatio: random.next() * 0.1,
      lateRatio: random.next() * 0.05,
    };
    world.trace(`store: ${JSON.stringify(conditions)}`);
    Object.assign(world.storeConditions, conditions);
    world.scheduler.after(seconds(random, 5, 30), () => {
      if (!world.isPeace) Object.assign(world.storeConditions, CALM_STORE);
    });
  },
  partition: (world, random) => {
    const gateway = random.pick(world.gateways).name;
    const hubs = random.chance(0.5) ? world.hubs : [random.pick(world.hubs)];
    const us = seconds(random, 0.5, 25);
    world.trace(`network: ${gateway} cannot reach ${hubs.map(({ name }) => name).join(', ')} for ${(us / 1e6).toFixed(1)} s`);
    for (const { name } of hubs) world.network.cut(gateway, name);
    world.scheduler.after(us, () => {
      for (const { name } of hubs) world.network.heal(gateway, name);
    });
  },
  reset: (world, random) => {
    const gateway = random.pick(world.gateways).name;
    for (const { name } of world.hubs) world.network.reset(gateway, name);
  },
  badLine: (world, random) => {
    const conditions = {
      delayMsMin: 1,
      delayMsMax: random.between(30, 800),
      lossRatio: random.next() * 0.1,
      duplicateRatio: random.next() * 0.1,
      damageRatio: random.chance(0.5) ? random.next() * 0.1 : 0,
    };
    world.trace(`network: ${JSON.stringify(conditions)}`);
    world.network.conditions = conditions;
  },
  deviceReset: (world, random) => random.pick(world.devices).disconnect(),
  lakeImage: (world) => {
    world.trace('lake: backup');
    world.takeLakeImage();
  },
  lakeRestore: (world, random) => {
    if (!world.restoreLake()) return;
    world.trace(`lake: restored to version ${world.truth.version}`);
    for (const hub of world.hubs) {
      downFor(world, seconds(random, 0.5, 5), () => {
        if (hub.process === null) hub.start();
      });
    }
  },
  hubClockStep: (world, random) => {
    const hub = random.pick(world.hubs);
    // Across the hour after which a snapshot is confirmed, and the days after which files and the log are cleaned up.
    const us = random.pick([-1, 1]) * random.pick([seconds(random, 1, 600), seconds(random, 3_600, 40 * 86_400)]);
    world.trace(`${hub.name}: clock steps by ${(us / 1e6).toFixed(1)} s`);
    hub.stepClock(us);
  },
} satisfies Record<string, Inject>;

export type FaultKind = keyof typeof FAULTS;

/** The most of each kind in one run. */
const OFTEN: Readonly<Record<FaultKind, number>> = {
  gatewayCrash: 4,
  gatewayImage: 2,
  gatewayRestore: 1,
  journalDamage: 1,
  clockUnknown: 2,
  clockStep: 3,
  hubCrash: 5,
  hubFreeze: 3,
  hubMaintenance: 3,
  storeOutage: 3,
  storeTrouble: 3,
  partition: 4,
  reset: 6,
  badLine: 3,
  deviceReset: 6,
  lakeImage: 2,
  lakeRestore: 1,
  hubClockStep: 3,
};

/** Faults after which readings may be lost or doubled with an excuse: rarer, so that most runs have none. */
const RARE: ReadonlySet<FaultKind> = new Set(['gatewayRestore', 'journalDamage', 'lakeRestore', 'clockStep', 'clockUnknown']);

/** Drawn from streams of their own: they came later, and the seeds that are kept mean what they meant. */
const DRAWN_APART: ReadonlySet<FaultKind> = new Set(['hubClockStep']);

export function shapeOf(random: SimRandom): Shape {
  const faults: Partial<Record<FaultKind, number>> = {};
  for (const kind of Object.keys(FAULTS) as FaultKind[]) {
    const own = DRAWN_APART.has(kind) ? random.stream(kind) : random;
    if (own.chance(RARE.has(kind) ? 0.2 : 0.6)) faults[kind] = own.between(1, OFTEN[kind]);
  }
  const isTight = random.chance(0.2);
  if (isTight) faults.partition = 6;
  return {
    gateways: random.pick([1, 1, 2, 3]),
    hubs: random.pick([1, 2, 2, 3]),
    devicesPerGateway: random.between(1, 3),
    spreadRatio: random.pick([0, 0.2, 1]),
    textLength: isTight ? 4_000 : 0,
    isTight,
    pendingBytesMax: random.pick([50_000, 5_000_000]),
    journal: {
      sealIntervalMs: random.pick([700, 2_000, 2_000]),
      backfillAfterMs: random.pick([1_000, 5_000, 30_000]),
      batchReadingsMax: random.pick([10, 100, 10_000]),
      bufferBytesMax: isTight ? 400_000 : 64_000_000,
      bufferPolicy: random.pick(['drop-oldest', 'drop-oldest', 'reject']),
    },
    engine: {
      commitIntervalMsMin: random.pick([1_000, 3_000, 6_000]),
      commitIntervalMsMax: 8_000,
      commitReadingsMax: random.pick([40, 100_000]),
      commitBytesMax: 64_000_000,
      flushIntervalMs: random.pick([4_000, 10_000, 40_000]),
    },
    faults,
  };
}

export function scheduleFaults(world: Simulation, random: SimRandom): void {
  for (const [kind, count] of Object.entries(world.shape.faults)) {
    const inject: Inject = FAULTS[kind as FaultKind];
    for (let index = 0; index < count; index++) {
      const own = random.stream(`${kind} ${index}`);
      world.scheduler.after(own.between(FAULTS_BEGIN_US, FAULTS_END_US), () => {
        if (!world.isPeace) world.guard(() => inject(world, own));
      });
    }
  }
}
