/** The wall clock of one program, shifted by libfaketime while it runs. Its monotonic clock stays true, as a step of the clock leaves it. */
import { renameSync, writeFileSync } from 'node:fs';
import { fakeTimeLibrary } from './needs.ts';

/** 1970: what a Raspberry Pi without a battery-backed clock believes when it boots. */
export const BOOT_TIME = '@1970-01-01 00:05:00';
export const TRUE_TIME = '+0';

function environment(): NodeJS.ProcessEnv {
  return { LD_PRELOAD: fakeTimeLibrary() ?? '', FAKETIME_DONT_FAKE_MONOTONIC: '1', NO_FAKE_STAT: '1' };
}

/** For a program whose clock is wrong by the same all the time. @param offset like +3m, -1h */
export function shiftedClock(offset: string): NodeJS.ProcessEnv {
  return { ...environment(), FAKETIME: offset };
}

/** Runs a program as after a reboot: with a monotonic clock of its own, which begins elsewhere in every boot. */
export function bootWrapper(boot: number): string[] {
  const seconds = String(boot * 1_000_000);
  return ['unshare', '--time', '--monotonic', seconds, '--boottime', seconds];
}

export class FakeClock {
  readonly env: NodeJS.ProcessEnv;
  readonly #file: string;

  constructor(file: string, time: string) {
    this.#file = file;
    this.env = { ...environment(), FAKETIME_TIMESTAMP_FILE: file, FAKETIME_NO_CACHE: '1' };
    this.set(time);
  }

  /** At once, for the running program too. */
  set(time: string): void {
    writeFileSync(`${this.#file}.new`, `${time}\n`);
    renameSync(`${this.#file}.new`, this.#file); // read at every look at the clock: never half written
  }
}
