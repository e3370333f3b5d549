import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { CARD_BYTES_PER_DAY_MAX, Flash, type FlashOptions } from './flash.ts';
import { flashDeviceOf, type FlashDevice } from './flash-device.ts';

const SECOND_US = 1_000_000;
const DAY_SECONDS = 86_400;

interface Setting {
  readonly clock: ManualClock;
  readonly flash: Flash;
  write(bytes: number): void;
  read(readings: number): void;
}

function setting(options: Partial<FlashOptions> & { isCard?: boolean } = {}): Setting {
  const clock = new ManualClock(0);
  let bytes = 5_000_000;
  let readings = 0;
  const device: FlashDevice = {
    name: 'mmcblk0p2',
    disk: 'mmcblk0',
    capacityBytes: 32e9,
    isCard: options.isCard ?? true,
    writtenBytes: () => bytes,
    diskWrittenBytes: () => 2 * bytes,
    wornShare: () => null,
  };
  const flash = new Flash({
    dataDir: '/',
    clock,
    bytesPerDayMax: null,
    ackLatencyMsMax: 1_000,
    enduranceBytes: null,
    readings: () => readings,
    device,
    ...options,
  });
  return { clock, flash, write: (more) => (bytes += more), read: (more) => (readings += more) };
}

describe('the flash budget', () => {
  test('delays nothing while there is some, and settles at a delay where writes that wait longer are fewer', () => {
    const { clock, flash, write } = setting();
    expect(flash.delayMs).toBe(0);
    // A commit of 5 kB for each delay, at least 20 ms: without a budget 250 kB a second, ten times what is allowed.
    let written = 0;
    const seconds = 3 * 3600;
    for (let second = 0; second < seconds; second++) {
      const bytes = 5_000 * Math.min(50, 1_000 / Math.max(20, flash.delayMs));
      write(bytes);
      if (second > seconds / 2) written += bytes;
      clock.advance(SECOND_US);
    }
    const perDay = (written / (seconds / 2)) * DAY_SECONDS;
    expect(perDay / CARD_BYTES_PER_DAY_MAX).toBeGreaterThan(0.95);
    expect(perDay / CARD_BYTES_PER_DAY_MAX).toBeLessThan(1.05);
    expect(flash.delayMs).toBeGreaterThan(150);
    expect(flash.delayMs).toBeLessThan(300);
  });

  test('is never the reason for more than the longest delay, and recovers from somebody else’s burst within minutes', () => {
    const { clock, flash, write } = setting();
    write(50e9);
    clock.advance(SECOND_US);
    expect(flash.delayMs).toBe(1_000);
    expect(flash.figures()?.budgetBytes).toBeLessThan(0);
    clock.advance(25 * 60 * SECOND_US);
    expect(flash.delayMs).toBe(0);
  });

  test('is off on other disks, unless configured, and where it is set to 0', () => {
    for (const options of [{ isCard: false }, { bytesPerDayMax: 0 }, { device: null }]) {
      const { clock, flash, write } = setting(options);
      write(50e9);
      clock.advance(SECOND_US);
      expect(flash.delayMs).toBe(0);
    }
    const { clock, flash, write } = setting({ isCard: false, bytesPerDayMax: 1e9 });
    write(50e9);
    clock.advance(SECOND_US);
    expect(flash.delayMs).toBe(1_000);
  });
});

test('tells bytes per reading and day, and how long a new disk would last, by what the whole disk takes', () => {
  const { clock, flash, write, read } = setting();
  for (let minute = 0; minute < 120; minute++) {
    write(600_000);
    read(30_000);
    clock.advance(60 * SECOND_US);
  }
  const figures = flash.figures();
  expect(figures).toMatchObject({ writtenBytes: 72e6, bytesPerReading: 20, bytesPerDay: 864e6, diskBytesPerDay: 1_728e6 });
  expect(figures?.lifeYears).toBeCloseTo((300 * 32e9) / 1_728e6 / 365.25, 6);
});

describe('the device under a directory', () => {
  const directories: string[] = [];
  afterEach(() => {
    for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
  });

  function root(files: Readonly<Record<string, string>>, links: Readonly<Record<string, string>>): string {
    const directory = mkdtempSync(path.join(tmpdir(), 'sluice-flash-'));
    directories.push(directory);
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
      writeFileSync(path.join(directory, name), text);
    }
    for (const [name, target] of Object.entries(links)) {
      mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
      symlinkSync(target, path.join(directory, name));
    }
    return directory;
  }

  test('is a partition of a card: its own bytes, the card’s bytes, size and wear', () => {
    const card = 'sys/devices/platform/mmc/block/mmcblk0';
    const stat = (sectors: number): string => ` 10 0 80 5 20 3 ${sectors} 9 0 40 50\n`;
    const files = {
      [`${card}/stat`]: stat(4_000),
      [`${card}/size`]: '62521344\n',
      [`${card}/device/life_time`]: '0x02 0x04\n',
      [`${card}/mmcblk0p2/stat`]: stat(1_000),
      [`${card}/mmcblk0p2/partition`]: '2\n',
    };
    const device = flashDeviceOf(
      '/',
      root(files, { 'sys/dev/block/179:2': '../../devices/platform/mmc/block/mmcblk0/mmcblk0p2' }),
      '179:2',
    );
    expect(device).toMatchObject({ name: 'mmcblk0p2', disk: 'mmcblk0', capacityBytes: 62_521_344 * 512, isCard: true });
    expect([device?.writtenBytes(), device?.diskWrittenBytes(), device?.wornShare()]).toEqual([512_000, 2_048_000, 0.4]);
  });

  test('is none where the kernel shows none', () => {
    expect(flashDeviceOf('/', root({}, {}), '0:21')).toBe(null);
    expect(flashDeviceOf('/', root({}, {}), null)).toBe(null);
  });
});
