/** A service as its unit file says, without systemd: user, environment and command are the installed unit's own. */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import type { TargetRoot } from './target-root.ts';

const NOTIFY_SOCKET = '/run/notify.sock';
/** Node has no datagram sockets of the Unix domain. */
const RECEIVER = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
print('bound', flush=True)
while True:
    message, fds, _, _ = socket.recv_fds(s, 4096, 8)
    # The sender waits until the end that it sent along is closed: systemd's barrier.
    for fd in fds: os.close(fd)
    print(message.decode().replace('\\n', ' '), flush=True)
`;

export interface Unit {
  readonly user: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly command: readonly string[];
}

/** The parts of a unit file that a process can have without systemd. */
export function parseUnit(text: string): Unit {
  const value = (key: string): string => new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1] ?? '';
  const environment = value('Environment')
    .split(' ')
    .map((pair) => pair.split('=') as [string, string]);
  return { user: value('User'), environment: Object.fromEntries(environment), command: value('ExecStart').split(' ') };
}

export class UnitProcess {
  readonly #root: TargetRoot;
  readonly #name: string;
  readonly #watchdogUs: number;
  #child: ChildProcess | null = null;
  #receiver: ChildProcess | null = null;
  #log = '';
  /** What systemd would have been told. */
  readonly notified: string[] = [];

  constructor(root: TargetRoot, name: string, watchdogUs = 3_000_000) {
    this.#root = root;
    this.#name = name;
    this.#watchdogUs = watchdogUs;
  }

  get pid(): number {
    return this.#child?.pid ?? -1;
  }

  get log(): string {
    return this.#log.slice(-4_000);
  }

  /** Until READY=1. */
  async start(timeoutMs = 60_000): Promise<void> {
    this.notified.length = 0;
    const socket = `${NOTIFY_SOCKET}.${this.#name}`;
    rmSync(this.#root.path(socket), { force: true });
    const receiver = spawn('python3', ['-c', RECEIVER, this.#root.path(socket)], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#receiver = receiver;
    await new Promise<void>((resolve) => {
      receiver.stdout.setEncoding('utf8').on('data', (text: string) => {
        for (const line of text.split('\n')) {
          if (line === 'bound') resolve();
          else if (line !== '') this.notified.push(line);
        }
      });
    });
    const { user, environment, command } = parseUnit(
      readFileSync(this.#root.path(`/usr/lib/systemd/system/${this.#name}.service`), 'utf8'),
    );
    const child = this.#root.spawn(user, { ...environment, NOTIFY_SOCKET: socket, WATCHDOG_USEC: String(this.#watchdogUs) }, command);
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
    const endMs = Date.now() + timeoutMs;
    while (!this.notified.some((message) => message.includes('READY=1'))) {
      if (child.exitCode !== null) throw new Error(`${this.#name} ended with ${child.exitCode} while starting:\n${this.log}`);
      if (Date.now() > endMs) throw new Error(`${this.#name} did not say READY=1 within ${timeoutMs} ms:\n${this.log}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** As `systemctl stop` does; null: it had to be killed, or was not running. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#child;
    this.#child = null;
    let code: number | null = null;
    if (child !== null && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
      child.kill(signal);
      code = await ended;
    }
    this.#receiver?.kill();
    this.#receiver = null;
    return code;
  }

  /** kB, as /proc has it. */
  memory(field: 'VmRSS' | 'VmHWM' | 'RssAnon' | 'RssFile'): number {
    return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1]);
  }
}
