/** A real mosquitto for tests; null where none is installed. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';

const PROGRAM = ['mosquitto', '/usr/sbin/mosquitto'].find((name) => spawnSync(name, ['-h']).error === undefined) ?? null;

export const mosquittoMissing = PROGRAM === null;

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

export class Mosquitto {
  readonly port: number;
  readonly directory: string;
  #child: ChildProcess | null = null;

  private constructor(port: number, directory: string) {
    this.port = port;
    this.directory = directory;
  }

  get url(): string {
    return `mqtt://127.0.0.1:${this.port}`;
  }

  /** @param extra further lines of its configuration, for the one listener */
  static async start(extra: (directory: string) => readonly string[] = () => ['allow_anonymous true']): Promise<Mosquitto> {
    const broker = new Mosquitto(await freePort(), mkdtempSync(path.join(tmpdir(), 'sluice-mosquitto-')));
    // Started by root it would give up its rights, and then not read its own files.
    const settings = [
      `listener ${broker.port} 127.0.0.1`,
      'max_inflight_messages 200',
      'max_queued_messages 0',
      `user ${userInfo().username}`,
    ];
    writeFileSync(path.join(broker.directory, 'mosquitto.conf'), `${[...settings, ...extra(broker.directory)].join('\n')}\n`);
    await broker.run();
    return broker;
  }

  /** Starts it, again after `kill`; without persistence it then has no sessions. */
  async run(): Promise<void> {
    this.#child = spawn(PROGRAM ?? '', ['-c', path.join(this.directory, 'mosquitto.conf')], { stdio: 'ignore' });
    while (!(await this.#answers())) await new Promise((resolve) => setTimeout(resolve, 20));
  }

  kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return Promise.resolve();
    this.#child = null;
    return new Promise((resolve) => {
      child.once('exit', () => resolve());
      child.kill('SIGKILL');
    });
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.port, '127.0.0.1');
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
  }
}
