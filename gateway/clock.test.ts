import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { GatewayClock, type ClockEvent, type GatewayClockOptions } from './clock.ts';
import { machineClockSources, type ClockSources, type NtpState } from './clock-sources.ts';

const TRUE_US = Date.UTC(2026, 5, 1, 12) * 1000;
const BOOT_1970_US = 300_000_000;
const SECOND_US = 1_000_000;
const HOUR_US = 3600 * SECOND_US;

const NO_MEMORY = { bootOffsetUs: null, earlierBootUs: 0 };

interface Machine extends ClockSources {
  state: NtpState;
  /** Hardware clock minus true time; null: there is none. */
  rtcAheadUs: number | null;
}

class Setting {
  readonly machine: ManualClock;
  readonly truth: ManualClock;
  readonly sources: Machine;
  readonly events: ClockEvent[] = [];
  readonly clock: GatewayClock;

  /** @param wallUs what the machine believes at its boot, while it is TRUE_US */
  constructor(
    wallUs: number,
    options: Partial<GatewayClockOptions> & { ntp?: NtpState; rtcAheadUs?: number | null; isVirtual?: boolean } = {},
  ) {
    this.machine = new ManualClock(wallUs);
    this.truth = new ManualClock(TRUE_US);
    this.sources = {
      bootId: 'boot-1',
      isVirtual: options.isVirtual ?? false,
      state: options.ntp ?? 'unknown',
      rtcAheadUs: options.rtcAheadUs ?? null,
      ntp: () => Promise.resolve(this.sources.state),
      rtcUs: () => (this.sources.rtcAheadUs === null ? null : this.truth.nowUs() + this.sources.rtcAheadUs),
    };
    this.clock = new GatewayClock({
      clock: this.machine,
      sources: this.sources,
      policy: 'auto',
      hasHub: true,
      onEvent: (event) => this.events.push(event),
      ...options,
    });
  }

  async advance(seconds: number): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      this.truth.advance(SECOND_US);
      this.machine.advance(SECOND_US);
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
  }

  /** An answer of a hub whose clock is right, or off. */
  hubAnswers(aheadUs = 0): void {
    const sentUs = this.machine.monotonicUs();
    this.truth.advance(20_000);
    const wallUs = this.truth.nowUs() + aheadUs;
    this.machine.advance(40_000);
    this.truth.advance(20_000);
    this.clock.hubAnswered(wallUs, sentUs, this.machine.monotonicUs());
  }

  get errorUs(): number {
    return this.clock.nowUs() - this.truth.nowUs();
  }
}

const settings: Setting[] = [];
function setting(...parameters: ConstructorParameters<typeof Setting>): Setting {
  const made = new Setting(...parameters);
  settings.push(made);
  return made;
}
afterEach(() => {
  for (const { clock } of settings.splice(0)) clock.stop();
});

describe('a clock becomes known', () => {
  test('when the kernel says that NTP has synchronised it, and not before', async () => {
    const board = setting(BOOT_1970_US, { ntp: 'unsynchronised' });
    await board.clock.start(NO_MEMORY);
    expect([board.clock.known, board.clock.nowUs()]).toEqual([false, board.machine.nowUs()]);
    board.machine.step(TRUE_US - BOOT_1970_US);
    board.sources.state = 'synchronised';
    await board.advance(6);
    expect([board.clock.known, board.clock.status().source, board.errorUs]).toEqual([true, 'ntp', 0]);
    expect(board.events.map(({ kind }) => kind)).toEqual(['known']);
  });

  test('not by a plausible date alone: a board without a battery boots with the time at which it was switched off', async () => {
    const board = setting(TRUE_US - 40 * HOUR_US);
    await board.clock.start(NO_MEMORY);
    await board.advance(30);
    expect(board.clock.known).toBe(false);
  });

  test('by the hub, whose time is taken where the machine has none', async () => {
    const board = setting(BOOT_1970_US);
    await board.clock.start(NO_MEMORY);
    board.hubAnswers();
    expect(board.clock.status()).toMatchObject({ known: true, source: 'hub' });
    expect(Math.abs(board.errorUs)).toBeLessThanOrEqual(20_000);
    expect(board.clock.status().machineAheadUs).toBeLessThan(-50 * 365 * 24 * HOUR_US);
  });

  test('by the hub, with the finer time of a machine that agrees with it', async () => {
    const board = setting(TRUE_US + 300_000);
    await board.clock.start(NO_MEMORY);
    board.hubAnswers();
    expect([board.clock.status().source, board.errorUs]).toEqual(['hub', 300_000]);
  });

  test('not by a hub that lives in 1970 itself, nor by an answer that took longer than ten seconds', async () => {
    const board = setting(BOOT_1970_US);
    await board.clock.start(NO_MEMORY);
    board.hubAnswers(-TRUE_US);
    board.clock.hubAnswered(TRUE_US, board.machine.monotonicUs() - 11 * SECOND_US, board.machine.monotonicUs());
    expect(board.clock.known).toBe(false);
  });

  test('by a hardware clock that agrees, not by one that stands at its own beginning', async () => {
    const box = setting(TRUE_US, { rtcAheadUs: 2 * SECOND_US });
    await box.clock.start(NO_MEMORY);
    expect([box.clock.status().source, box.errorUs]).toEqual(['rtc', 0]);
    const dead = setting(TRUE_US - 10 * HOUR_US, { rtcAheadUs: -TRUE_US });
    await dead.clock.start(NO_MEMORY);
    expect(dead.clock.known).toBe(false);
  });

  test('by a hypervisor, unless an earlier boot has seen a later time', async () => {
    const guest = setting(TRUE_US, { isVirtual: true });
    await guest.clock.start(NO_MEMORY);
    expect(guest.clock.status().source).toBe('hypervisor');
    const restored = setting(TRUE_US - HOUR_US, { isVirtual: true });
    await restored.clock.start({ bootOffsetUs: null, earlierBootUs: TRUE_US });
    expect(restored.clock.known).toBe(false);
  });

  test('by what an earlier process of the same boot knew, while nobody answers', async () => {
    const board = setting(BOOT_1970_US);
    await board.clock.start({ bootOffsetUs: TRUE_US, earlierBootUs: 0 });
    expect([board.clock.status().source, board.errorUs]).toEqual(['boot', 0]);
    await board.advance(30);
    expect(board.errorUs).toBe(0);
  });

  test('because the operator said so', async () => {
    const board = setting(TRUE_US, { policy: 'trusted', hasHub: false });
    await board.clock.start(NO_MEMORY);
    expect(board.clock.status().source).toBe('trusted');
    board.machine.step(HOUR_US);
    await board.advance(2);
    expect(board.errorUs).toBe(HOUR_US);
  });
});

describe('a step of the machine’s clock', () => {
  test('that NTP makes is followed, and counted', async () => {
    const board = setting(TRUE_US - 5 * SECOND_US, { ntp: 'synchronised' });
    await board.clock.start(NO_MEMORY);
    board.machine.step(5 * SECOND_US);
    await board.advance(6);
    expect(board.errorUs).toBe(0);
    expect(board.clock.status()).toMatchObject({ stepsForward: 1, stepsBack: 0, stepsIgnored: 0 });
    expect(board.events.map(({ kind, stepUs }) => [kind, stepUs])).toEqual([
      ['known', 0],
      ['step', 5 * SECOND_US],
    ]);
  });

  test('that nobody vouches for changes nothing, is told once, and is over when it is taken back', async () => {
    const board = setting(TRUE_US, { ntp: 'synchronised' });
    await board.clock.start(NO_MEMORY);
    board.sources.state = 'unsynchronised';
    board.machine.step(-HOUR_US);
    await board.advance(20);
    expect([board.errorUs, board.clock.status().machineAheadUs, board.clock.status().stepsIgnored]).toEqual([0, -HOUR_US, 1]);
    board.machine.step(HOUR_US);
    await board.advance(2);
    expect(board.clock.status()).toMatchObject({ machineAheadUs: 0, stepsForward: 0, stepsBack: 0, stepsIgnored: 1 });
  });

  test('after a suspension is followed once the hub agrees with it', async () => {
    const board = setting(TRUE_US);
    await board.clock.start(NO_MEMORY);
    board.hubAnswers();
    // The monotonic clock stands still while the machine sleeps.
    board.truth.advance(HOUR_US);
    board.machine.step(HOUR_US);
    await board.advance(3);
    expect(Math.abs(board.errorUs + HOUR_US)).toBeLessThan(50_000);
    board.clock.hubHeard(board.truth.nowUs());
    await board.advance(6);
    expect(Math.abs(board.errorUs)).toBeLessThan(50_000);
  });

  test('is followed where there is nobody to ask but the operator who made it', async () => {
    const board = setting(TRUE_US - HOUR_US, { isVirtual: true, hasHub: false });
    await board.clock.start(NO_MEMORY);
    board.machine.step(HOUR_US);
    await board.advance(6);
    expect([board.errorUs, board.clock.status().source]).toEqual([0, 'operator']);
  });

  test('smaller than what two reads differ by is none', async () => {
    const board = setting(TRUE_US, { ntp: 'synchronised' });
    await board.clock.start(NO_MEMORY);
    board.machine.step(50_000);
    await board.advance(3);
    expect([board.clock.offsetUs, board.clock.status().stepsForward]).toEqual([TRUE_US, 0]);
  });
});

test('a hub that is an hour off moves no clock that NTP keeps, and is told of', async () => {
  const board = setting(TRUE_US, { ntp: 'synchronised' });
  await board.clock.start(NO_MEMORY);
  board.hubAnswers(HOUR_US);
  await board.advance(3);
  expect(board.errorUs).toBe(0);
  expect(Math.abs((board.clock.status().hub?.aheadUs ?? 0) - HOUR_US)).toBeLessThan(SECOND_US);
});

describe('a machine is asked', () => {
  const directories: string[] = [];
  afterEach(() => {
    for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
  });

  function root(files: Readonly<Record<string, string>>): string {
    const directory = mkdtempSync(path.join(tmpdir(), 'sluice-clock-'));
    directories.push(directory);
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
      writeFileSync(path.join(directory, name), text);
    }
    return directory;
  }

  const programs = (answers: Readonly<Record<string, string>>) => (file: string) => Promise.resolve(answers[file] ?? null);

  test.each<[string, Record<string, string>, Record<string, string>, NtpState]>([
    ['timedatectl says yes', { timedatectl: 'yes\n' }, {}, 'synchronised'],
    [
      'timedatectl says no, an old mark notwithstanding',
      { timedatectl: 'no\n' },
      { 'run/systemd/timesync/synchronized': '' },
      'unsynchronised',
    ],
    [
      'chrony has a source',
      { chronyc: 'A29FC87B,time.example,3,1763824500.1,0.0,0.0,0.0,-7.1,0.0,0.1,0.02,0.001,64.4,Normal\n' },
      {},
      'synchronised',
    ],
    ['chrony has none', { chronyc: '7F7F0101,,0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised\n' }, {}, 'unsynchronised'],
    ['a container is shown timesyncd’s mark', {}, { 'run/systemd/timesync/synchronized': '' }, 'synchronised'],
    ['a container is shown that there is none yet', {}, { 'run/systemd/timesync/clock': '' }, 'unsynchronised'],
    ['nothing answers', {}, {}, 'unknown'],
  ])('%s', async (_name, answers, files, expected) => {
    expect(await machineClockSources(root(files), programs(answers)).ntp()).toBe(expected);
  });

  test('for its boot, its hardware clock and its hypervisor', () => {
    const files = {
      'proc/sys/kernel/random/boot_id': '4f1c\n',
      'proc/self/timens_offsets': 'monotonic           0         0\nboottime            0         0\n',
      'sys/class/rtc/rtc0/since_epoch': '1780315200\n',
      'sys/devices/system/clocksource/clocksource0/available_clocksource': 'tsc kvm-clock\n',
    };
    const sources = machineClockSources(root(files), programs({}));
    expect([sources.bootId, sources.rtcUs(), sources.isVirtual]).toEqual(['4f1c', 1_780_315_200_000_000, true]);
    const shifted = machineClockSources(root({ ...files, 'proc/self/timens_offsets': 'monotonic 3600 0\n' }), programs({}));
    expect(shifted.bootId).not.toBe('4f1c');
    const bare = root({});
    expect([machineClockSources(bare, programs({})).rtcUs(), machineClockSources(bare, programs({})).isVirtual]).toEqual([null, false]);
    expect(machineClockSources(bare, programs({})).bootId).not.toBe(machineClockSources(bare, programs({})).bootId);
  });
});
