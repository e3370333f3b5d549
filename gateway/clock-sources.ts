/**
 * What this machine can say about its own clock: the kernel's NTP state, the hardware clock, who started it, and which
 * boot this is. Linux; elsewhere, and where a file or a program is missing, the answer is "cannot be asked".
 */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** unknown: nothing here can be asked (a container without systemd, say). */
export type NtpState = 'synchronised' | 'unsynchronised' | 'unknown';

export interface ClockSources {
  /** The same for all processes that share a monotonic clock. */
  readonly bootId: string;
  /** The hypervisor sets the clock of this machine when it boots. */
  readonly isVirtual: boolean;
  ntp(): Promise<NtpState>;
  /** The hardware clock now, µs since the epoch; null: there is none. */
  rtcUs(): number | null;
}

/** Runs a program and answers what it printed, null when it is missing, fails or takes too long. */
export type RunProgram = (file: string, args: readonly string[]) => Promise<string | null>;

/** A daemon that has to be started to answer takes a second on a Pi; one that hangs must not hold anything up. */
const PROGRAM_TIMEOUT_MS = 3_000;
const ANSWER_BYTES_MAX = 64 * 1024;

const runProgram: RunProgram = (file, args) =>
  new Promise((resolve) => {
    execFile(file, [...args], { timeout: PROGRAM_TIMEOUT_MS, maxBuffer: ANSWER_BYTES_MAX, encoding: 'utf8' }, (error, stdout) =>
      resolve(error === null ? stdout : null),
    );
  });

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return null; // this kernel or this machine does not have it
  }
}

/** @param root where /proc, /sys and /run are; tests give a directory of their own */
export function machineClockSources(root = '/', run: RunProgram = runProgram): ClockSources {
  return {
    bootId: bootId(root),
    isVirtual: /kvm-clock|hyperv|xen/.test(
      read(path.join(root, 'sys/devices/system/clocksource/clocksource0/available_clocksource')) ?? '',
    ),
    ntp: () => ntpState(root, run),
    rtcUs: () => {
      const seconds = Number(read(path.join(root, 'sys/class/rtc/rtc0/since_epoch')) ?? NaN);
      return Number.isFinite(seconds) ? seconds * 1e6 : null;
    },
  };
}

function bootId(root: string): string {
  const id = read(path.join(root, 'proc/sys/kernel/random/boot_id'));
  if (id === null) return randomUUID();
  // A time namespace shifts the monotonic clock of the processes in it: theirs is another timeline of the same boot.
  const shift = /^monotonic\s+(-?\d+)\s+(-?\d+)$/m.exec(read(path.join(root, 'proc/self/timens_offsets')) ?? '');
  return shift === null || (shift[1] === '0' && shift[2] === '0') ? id : `${id}+${shift[1]}.${shift[2]}`;
}

/**
 * The kernel's own flag (adjtimex, which timedatectl shows whichever daemon set it), else chrony, else the mark that
 * systemd-timesyncd leaves at its first synchronisation, which also a container can be shown.
 */
async function ntpState(root: string, run: RunProgram): Promise<NtpState> {
  const flag = (await run('timedatectl', ['show', '-p', 'NTPSynchronized', '--value']))?.trim();
  if (flag === 'yes') return 'synchronised';
  if (flag === 'no') return 'unsynchronised';
  // Fields of `tracking` in CSV: the last is the leap status, "Not synchronised" until a source was selected.
  const tracking = (await run('chronyc', ['-c', 'tracking']))?.trim();
  if (tracking !== undefined && tracking !== '') return /,Not synchronised$/i.test(tracking) ? 'unsynchronised' : 'synchronised';
  if (existsSync(path.join(root, 'run/systemd/timesync/synchronized'))) return 'synchronised';
  return existsSync(path.join(root, 'run/systemd/timesync')) ? 'unsynchronised' : 'unknown';
}
