/**
 * Peers: programs of others that take the same load on the same machine, started over a site and ended with it.
 *
 * Each answers null where the program is not installed; the benchmark then says so and how to get it.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { freePort } from '../process-tools.ts';
import { mqttConnect, mqttSubscribe } from './load-protocols.ts';
import { until, type Program, type Site } from './processes.ts';

export const PEER_PACKAGES = 'mosquitto nats-server influxdb';
export const APT_LINE = `apt-get install -y --no-install-recommends ${PEER_PACKAGES}`;

export interface PeerBroker {
  readonly name: string;
  readonly program: Program;
  readonly port: number;
}

/** Where a program is; Debian puts servers where a user's PATH does not look. */
export function findProgram(name: string): string | null {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/local/sbin'];
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file)) ?? null;
}

export function absentNote(program: string, packageName = program): string {
  return `${program} is not installed, so its figures are missing (\`apt-get install -y --no-install-recommends ${packageName}\`).`;
}

async function waitPort(port: number, program: Program): Promise<void> {
  await until(
    `${program.name} to listen`,
    () => {
      if (program.hasEnded) throw new Error(`${program.name} ended while starting`);
      return new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1');
        socket.once('connect', () => {
          socket.destroy();
          resolve(true);
        });
        socket.once('error', () => resolve(false));
      });
    },
    20_000,
  );
}

/** Opens a connection, sends and waits for so many answers of any kind. */
export function mqttExchange(port: number, packets: readonly Buffer[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let sent = 0;
    const next = (): void => {
      const packet = packets[sent++];
      if (packet === undefined) {
        socket.end(Buffer.of(0xe0, 0)); // DISCONNECT
        resolve();
      } else socket.write(packet);
    };
    socket.on('connect', next);
    socket.on('data', next);
    socket.on('error', reject);
  });
}

export interface MosquittoOptions {
  readonly name: string;
  /** Sessions and queues are written to disk every second; acknowledgements do not wait for it. */
  readonly persistent: boolean;
  /** More lines of mosquitto.conf. */
  readonly lines?: readonly string[];
}

export async function startMosquitto(site: Site, options: MosquittoOptions): Promise<PeerBroker | null> {
  const command = findProgram('mosquitto');
  if (command === null) return null;
  const port = await freePort();
  const directory = path.join(site.directory, options.name);
  mkdirSync(directory, { recursive: true });
  const config = path.join(directory, 'mosquitto.conf');
  const lines = [
    `listener ${port} 127.0.0.1`,
    'allow_anonymous true',
    ...(process.getuid?.() === 0 ? ['user root'] : []),
    'log_type error',
    'max_queued_messages 0',
    'max_inflight_messages 0',
    ...(options.persistent ? ['persistence true', `persistence_location ${directory}/`, 'autosave_interval 1'] : ['persistence false']),
    ...(options.lines ?? []),
  ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  const program = site.start(options.name, command, ['-c', config], { quiet: true });
  await waitPort(port, program);
  return { name: options.name, program, port };
}

/** A QoS 1 subscriber that has a session and is away: what is published must be kept for it. */
export async function leaveOfflineSubscriber(port: number): Promise<void> {
  await mqttExchange(port, [mqttConnect('absent', false), mqttSubscribe('devices/#')]);
}

/** JetStream on files, acknowledged after the write; with an fsync for each where the version can (2.10 and later). */
export async function startNats(site: Site): Promise<(PeerBroker & { readonly syncs: boolean }) | null> {
  const command = findProgram('nats-server');
  if (command === null) return null;
  const port = await freePort();
  const directory = path.join(site.directory, 'nats');
  mkdirSync(directory, { recursive: true });
  const config = path.join(directory, 'nats.conf');
  const write = (sync: string): void =>
    writeFileSync(config, `listen: "127.0.0.1:${port}"\njetstream { store_dir: "${directory}"${sync} }\n`);
  write(', sync_interval: always');
  const syncs = spawnSync(command, ['-t', '-c', config]).status === 0;
  if (!syncs) write('');
  const name = syncs ? 'NATS JetStream, sync always' : 'NATS JetStream, no fsync before the ack';
  const program = site.start('nats', command, ['-c', config], { quiet: true });
  await waitPort(port, program);
  await natsRequest(port, '$JS.API.STREAM.CREATE.bench', {
    name: 'bench',
    subjects: ['devices.>'],
    storage: 'file',
    max_bytes: 4 * 1024 ** 3,
  });
  return { name, program, port, syncs };
}

function natsRequest(port: number, subject: string, body: object): Promise<void> {
  const payload = JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let text = '';
    socket.on('connect', () =>
      socket.write(
        `CONNECT {"verbose":false}\r\nSUB _INBOX.setup 1\r\nPUB ${subject} _INBOX.setup ${Buffer.byteLength(payload)}\r\n${payload}\r\n`,
      ),
    );
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const answer = /MSG [^\r]*\r\n(\{.*\})\r\n/.exec(text)?.[1];
      if (answer === undefined) return;
      socket.destroy();
      if (answer.includes('"error"')) reject(new Error(`NATS: ${answer}`));
      else resolve();
    });
    socket.on('error', reject);
  });
}

/**
 * InfluxDB 1.x with its defaults, in its own directory, reporting off.
 *
 * @param dataSettings further lines of its section [data]
 */
export async function startInflux(
  site: Site,
  dataSettings = '',
): Promise<{ readonly program: Program; readonly url: string; readonly directory: string } | null> {
  const command = findProgram('influxd');
  if (command === null) return null;
  const [httpPort, rpcPort] = [await freePort(), await freePort()];
  const directory = path.join(site.directory, 'influx');
  mkdirSync(directory, { recursive: true });
  const config = path.join(directory, 'influxdb.conf');
  writeFileSync(
    config,
    [
      'reporting-disabled = true',
      `bind-address = "127.0.0.1:${rpcPort}"`,
      `[meta]\n  dir = "${directory}/meta"`,
      `[data]\n  dir = "${directory}/data"\n  wal-dir = "${directory}/wal"\n  query-log-enabled = false\n  max-series-per-database = 0\n  ${dataSettings}`,
      `[http]\n  bind-address = "127.0.0.1:${httpPort}"\n  log-enabled = false`,
      '[monitor]\n  store-enabled = false',
    ].join('\n'),
  );
  const program = site.start('influxd', command, ['-config', config], { quiet: true });
  await waitPort(httpPort, program);
  const url = `http://127.0.0.1:${httpPort}`;
  const answer = await fetch(`${url}/query?q=${encodeURIComponent('CREATE DATABASE bench')}`, { method: 'POST' });
  if (!answer.ok) throw new Error(`InfluxDB: ${answer.status} ${await answer.text()}`);
  return { program, url, directory };
}
