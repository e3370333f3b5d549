/** The machine: clock, power and temperature of a Raspberry Pi, memory. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Clock } from '../../shared/clock.ts';
import type { ClockSources } from '../clock-sources.ts';
import { bytesText, fail, ok, warn, type Check } from './check.ts';

/** Where the kernel shows the firmware's flags; vcgencmd asks the firmware itself. */
const THROTTLED_FILE = 'sys/devices/platform/soc/soc:firmware/get_throttled';
const MODEL_FILE = 'proc/device-tree/model';
const PROGRAM_TIMEOUT_MS = 3_000;
const AVAILABLE_BYTES_MIN = 96_000_000;
/** The first release: no clock that is right says less. */
const EARLIEST_US = Date.UTC(2026, 0, 1) * 1000;

/** Bits of get_throttled (Raspberry Pi documentation, vcgencmd): now, and 16 bits further since boot. */
const THROTTLED_BITS: readonly (readonly [bit: number, meaning: string])[] = [
  [0, 'under-voltage'],
  [1, 'CPU frequency capped'],
  [2, 'throttled'],
  [3, 'temperature limit reached'],
];
const SINCE_BOOT = 16;

export function throttledMeanings(flags: number): { readonly now: readonly string[]; readonly before: readonly string[] } {
  const set = (shift: number): string[] => THROTTLED_BITS.filter(([bit]) => (flags >>> (bit + shift)) & 1).map(([, meaning]) => meaning);
  return { now: set(0), before: set(SINCE_BOOT) };
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').replaceAll('\0', '').trim();
  } catch {
    return null; // not this kind of machine
  }
}

/** @param root where /proc and /sys are */
export async function checkPower(root: string): Promise<Check> {
  const name = 'power';
  const model = read(path.join(root, MODEL_FILE));
  const text = read(path.join(root, THROTTLED_FILE)) ?? (model?.includes('Raspberry Pi') === true ? await vcgencmd() : null);
  if (text === null)
    return model?.includes('Raspberry Pi') === true
      ? warn(
          name,
          `${model}: the firmware cannot be asked`,
          'sudo apt install libraspberrypi-bin, and add sluice-gateway to the group video',
        )
      : ok(name, 'not a Raspberry Pi: nothing to ask');
  const flags = Number.parseInt(text.replace(/^throttled=/, '').replace(/^0x/i, ''), 16);
  if (!Number.isFinite(flags))
    return warn(name, `the firmware said ${JSON.stringify(text.slice(0, 40))}`, 'vcgencmd get_throttled should say throttled=0x0');
  const { now, before } = throttledMeanings(flags);
  const hex = `0x${flags.toString(16)}`;
  const advice = [...now, ...before].includes('under-voltage')
    ? 'use the power supply of this model and a short cable: under-voltage corrupts cards'
    : 'give it air or a heat sink';
  if (now.includes('under-voltage')) return fail(name, `now: ${now.join(', ')} (${hex})`, advice);
  if (now.length > 0) return warn(name, `now: ${now.join(', ')} (${hex})`, advice);
  if (before.length > 0) return warn(name, `since boot: ${before.join(', ')} (${hex})`, advice);
  return ok(name, 'no under-voltage, no throttling since boot');
}

function vcgencmd(): Promise<string | null> {
  return new Promise((resolve) => {
    execFile('vcgencmd', ['get_throttled'], { timeout: PROGRAM_TIMEOUT_MS, encoding: 'utf8' }, (error, stdout) =>
      resolve(error === null ? stdout.trim() : null),
    );
  });
}

export async function checkClock(clock: Pick<Clock, 'nowUs'>, sources: ClockSources): Promise<Check> {
  const name = 'clock';
  const nowUs = clock.nowUs();
  const now = new Date(nowUs / 1000).toISOString();
  const ntp = await sources.ntp();
  const rtc = sources.rtcUs() === null ? 'no hardware clock' : 'with a hardware clock';
  const found = `${now}, NTP ${ntp}, ${rtc}`;
  if (nowUs < EARLIEST_US)
    return fail(name, found, 'the time is long past: readings are kept, and sent once a time is known; check the network and timedatectl');
  if (ntp === 'unsynchronised')
    return warn(name, found, 'sudo timedatectl set-ntp true; until a source answers, the hub is the second opinion');
  if (ntp === 'unknown')
    return warn(name, found, 'install systemd-timesyncd or chrony, or set clock to trusted if something else keeps it');
  return ok(name, found);
}

/** @param root where /proc is */
export function checkMemory(root: string): Check {
  const name = 'memory';
  const kilobytes = /^MemAvailable:\s+(\d+) kB/m.exec(read(path.join(root, 'proc/meminfo')) ?? '')?.[1];
  if (kilobytes === undefined) return ok(name, 'this system does not say');
  const bytes = Number(kilobytes) * 1024;
  if (bytes < AVAILABLE_BYTES_MIN)
    return warn(
      name,
      `${bytesText(bytes)} available`,
      `under load the gateway takes more than ${bytesText(AVAILABLE_BYTES_MIN)}: stop other programs, or give it swap`,
    );
  return ok(name, `${bytesText(bytes)} available`);
}
