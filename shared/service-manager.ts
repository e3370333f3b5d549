/**
 * What systemd is told of this process: ready, stopping, and that it is alive as long as its heart answers: the journal's
 * thread of a gateway, the engine's of a hub.
 *
 * Node has no datagram sockets of the Unix domain, so `systemd-notify` is spawned for each message (some 20 ms of another
 * core every WatchdogSec / 3); the unit allows it with NotifyAccess=all. Without NOTIFY_SOCKET all of this does nothing.
 *
 * The watchdog asks that thread and passes its answer on: a thread that hangs in a disk, and a main thread that has no
 * turn, both end in silence, and systemd kills and starts the process again. An answer that is an error (disk full,
 * failing) is an answer: a restart would not help, and the thread heals by itself.
 */
import { spawn } from 'node:child_process';
import type { Clock } from './clock.ts';
import { errorMessage } from './errors.ts';
import type { Logger } from './logging.ts';

/** Three chances before the watchdog bites. */
const PINGS_PER_WATCHDOG = 3;
/** Said once an hour at most while it fails: the service manager may be anything. */
const COMPLAINT_INTERVAL_US = 3_600_000_000;

export interface ServiceManagerOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pid: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Settles when the thread has answered, whatever it answered. */
  readonly askHeart: () => Promise<unknown>;
  /** Default: spawns systemd-notify. */
  readonly notify?: (message: readonly string[]) => Promise<void>;
}

export class ServiceManager {
  readonly #options: ServiceManagerOptions;
  readonly #intervalMs: number | null;
  #asking = false;
  #cancel: () => void = () => {};
  #stopped = false;
  #complainedUs = -Infinity;

  constructor(options: ServiceManagerOptions) {
    this.#options = options;
    this.#intervalMs = watchdogIntervalMs(options.env, options.pid);
  }

  /** The program serves. Starts the watchdog where there is one. */
  ready(status: string): void {
    this.#notify('--ready', `--status=${status}`);
    this.#watch();
  }

  stopping(): void {
    this.#stopped = true;
    this.#cancel();
    this.#notify('STOPPING=1');
  }

  #watch(): void {
    if (this.#intervalMs === null || this.#stopped) return;
    this.#cancel = this.#options.clock.after(this.#intervalMs, () => {
      this.#ping();
      this.#watch();
    });
  }

  #ping(): void {
    // One question at a time: a thread that does not answer is not asked more.
    if (this.#asking) return;
    this.#asking = true;
    const answered = (): void => {
      this.#asking = false;
      if (!this.#stopped) this.#notify('WATCHDOG=1');
    };
    this.#options.askHeart().then(answered, answered);
  }

  #notify(...message: string[]): void {
    const { env, clock, logger, notify } = this.#options;
    if (env['NOTIFY_SOCKET'] === undefined) return;
    (notify ?? spawnNotify)(message).catch((error: unknown) => {
      const nowUs = clock.monotonicUs();
      if (nowUs - this.#complainedUs < COMPLAINT_INTERVAL_US) return;
      this.#complainedUs = nowUs;
      logger.error({ error: errorMessage(error), message }, 'systemd-notify failed: the service manager may think that this process hangs');
    });
  }
}

/** null: no watchdog, or it is another process's. */
export function watchdogIntervalMs(env: Readonly<Record<string, string | undefined>>, pid: number): number | null {
  const watchdogUs = Number(env['WATCHDOG_USEC']);
  if (!(watchdogUs > 0)) return null;
  if (env['WATCHDOG_PID'] !== undefined && env['WATCHDOG_PID'] !== String(pid)) return null;
  return Math.max(1, Math.floor(watchdogUs / 1000 / PINGS_PER_WATCHDOG));
}

function spawnNotify(message: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('systemd-notify', message, { stdio: 'ignore' });
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`systemd-notify ended with ${signal ?? code}`));
    });
  });
}
