/** Malformed input at every entrance among good traffic; subscribers that are slow or read nothing; oversized packets; idle connections. */
import { connect, type Socket } from 'node:net';
import { readFileSync } from 'node:fs';
import { TOPIC_RULES } from '../../e2e/bad-payloads.ts';
import { fetchJson, until } from '../../e2e/processes.ts';
import { exchange, mqttConnect, mqttPacket, mqttPublish, mqttString, webSocketExchange } from '../../e2e/raw-clients.ts';
import { mutated, noise, poisonPayload, poisonSession } from '../poison-input.ts';
import { Rounds } from '../random.ts';
import type { Scenario } from '../scenario.ts';
import type { System, Trial } from '../trial.ts';
import { residentBytes } from '../watch.ts';

const IDLE_CONNECTIONS = 10_000;
/** Files that gateway and lab have open besides. */
const OTHER_FILES = 1_000;
const IDLE_OPEN_MS_MAX = 120_000;
const CONNECTS_AT_ONCE = 100;
const OVERSIZED_BYTES = 2 * 1024 * 1024;
const EXCHANGE_MS = 300;
const BURST = 40;
/** Chosen: 10,000 idle connections and subscribers that take nothing fit. */
const MEGABYTES_MAX = 600;

const SUBSCRIBE_TO_ALL = mqttPacket(0x82, Buffer.concat([Buffer.from([0, 1]), mqttString('#'), Buffer.from([0])]));
const PATHS = [
  '/v1/readings?device=poison',
  '/v1/readings',
  '/api/v2/write?precision=ms',
  '/write?db=x',
  '/v1/status',
  '/%00',
  '/metrics?x=%ff',
];
const TYPES = [
  'application/json',
  'application/msgpack',
  'application/senml+json',
  'text/plain',
  'nonsense',
  'application/json; charset=utf-16',
];
const HUB_PATHS = [
  '/v1/aggregates',
  '/v1/readings',
  '/v1/series',
  '/v1/exceptions',
  '/v1/windows',
  '/v1/stream',
  '/v1/gateways',
  '/openapi.json',
];

type Attack = (trial: Trial, system: System) => Promise<void>;

async function request(url: string, init: RequestInit): Promise<void> {
  const answer = await fetch(url, { ...init, signal: AbortSignal.timeout(10_000) }).catch(() => null); // refused is an answer as well
  if (answer === null) return;
  if (answer.status >= 500 && answer.status !== 503)
    throw new Error(`${init.method ?? 'GET'} ${url}: ${answer.status} ${(await answer.text()).slice(0, 300)}`);
  await answer.body?.cancel();
}

async function burst(act: () => Promise<unknown>): Promise<void> {
  for (let done = 0; done < BURST; done += 10) await Promise.all(Array.from({ length: 10 }, act));
}

/** Stays connected until the trial ends. */
async function linger(trial: Trial, port: number, bytes: Uint8Array, isReading: boolean): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  trial.onClose(() => void socket.destroy());
  socket.on('error', () => undefined); // being thrown out is the gateway's right
  await new Promise((resolve) => {
    socket.once('connect', resolve);
    socket.once('close', resolve);
  });
  socket.write(bytes);
  if (isReading) socket.resume();
  return socket;
}

const ATTACKS: Readonly<Record<string, Attack>> = {
  'malformed MQTT': ({ random }, { gateway }) => burst(() => exchange(gateway.mqttPort, poisonSession(random), { timeoutMs: EXCHANGE_MS })),
  'malformed MQTT over WebSocket': ({ random }, { gateway }) =>
    burst(() =>
      webSocketExchange(`ws://127.0.0.1:${gateway.webSocketPort}`, {
        protocols: ['mqtt'],
        frames: [poisonSession(random)],
        timeoutMs: EXCHANGE_MS,
      }),
    ),
  'malformed HTTP at the gateway': ({ random }, { gateway }) =>
    burst(() =>
      random.next() < 0.3
        ? exchange(
            Number(new URL(gateway.httpUrl).port),
            mutated(Buffer.from('POST /v1/readings?device=x HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n{"a": 1}'), random),
            { timeoutMs: EXCHANGE_MS },
          )
        : request(gateway.httpUrl + random.pick(PATHS), {
            method: 'POST',
            headers: { 'content-type': random.pick(TYPES) },
            body: Buffer.from(poisonPayload(random).payload),
          }),
    ),
  'malformed requests at the hub': ({ random }, { hub }) =>
    burst(() =>
      request(
        `${hub.url}${random.pick(HUB_PATHS)}?${random.pick(['from', 'window', 'metric', 'limit', 'cursor', 'device'])}=${encodeURIComponent(noise(random).toString('latin1').slice(0, 200))}`,
        {},
      ),
    ),
  'malformed uplink': ({ random }, { hub }) =>
    burst(() =>
      webSocketExchange(`${hub.url.replace('http', 'ws')}/v1/uplink`, {
        protocols: ['sluice.uplink.1'],
        headers: { authorization: `Bearer ${random.index(1e9)}` },
        frames: [noise(random)],
        timeoutMs: EXCHANGE_MS,
      }),
    ),
  'oversized packets': ({ random }, { gateway }) =>
    burst(() =>
      exchange(
        gateway.mqttPort,
        Buffer.concat([
          mqttConnect(`huge-${random.index(100)}`),
          mqttPublish('devices/huge/telemetry', Buffer.alloc(OVERSIZED_BYTES, 0x31)),
        ]),
        { timeoutMs: EXCHANGE_MS },
      ),
    ),
  'subscriber that reads nothing': async (trial, { gateway }) => {
    const socket = await linger(
      trial,
      gateway.mqttPort,
      Buffer.concat([mqttConnect(`stuck-${trial.random.index(1e6)}`), SUBSCRIBE_TO_ALL]),
      false,
    );
    socket.pause();
  },
  'slow subscriber': async (trial, { gateway }) => {
    const socket = await linger(
      trial,
      gateway.mqttPort,
      Buffer.concat([mqttConnect(`slow-${trial.random.index(1e6)}`), SUBSCRIBE_TO_ALL]),
      false,
    );
    const timer = setInterval(() => socket.read(100), 50);
    trial.onClose(() => clearInterval(timer));
  },
};

/** As many as the files that a process may open leave room for: each has one end in the gateway and one here. */
function idleConnections(): number {
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  const room = limit === undefined ? Infinity : Number(limit) - OTHER_FILES;
  const count = Math.min(IDLE_CONNECTIONS, room);
  return Math.max(0, count - (count % CONNECTS_AT_ONCE));
}

async function connectionsOf({ gateway }: System): Promise<number> {
  const status = await fetchJson<{ readonly broker: { readonly connections: number } }>(`${gateway.httpUrl}/v1/status`);
  return status.broker.connections;
}

/** Sessions without keep-alive: nobody may throw them out. Ends when the gateway has accepted them all. */
async function openIdle(trial: Trial, system: System, count: number): Promise<readonly Socket[]> {
  const { gateway } = system;
  const before = { bytes: residentBytes(gateway.program.pid), connections: await connectionsOf(system) };
  const startMs = performance.now();
  const sockets: Socket[] = [];
  for (let opened = 0; opened < count; opened += CONNECTS_AT_ONCE) {
    const more = await Promise.all(
      Array.from({ length: CONNECTS_AT_ONCE }, (_, index) => {
        const hello = mqttPacket(
          0x10,
          Buffer.concat([mqttString('MQTT'), Buffer.from([4, 2, 0, 0]), mqttString(`idle-${opened + index}`)]),
        );
        return linger(trial, gateway.mqttPort, hello, true);
      }),
    );
    sockets.push(...more);
  }
  const areOpen = async (): Promise<true | null> => ((await connectionsOf(system)) >= count ? true : null);
  await until(`${count} idle connections to be accepted`, areOpen, IDLE_OPEN_MS_MAX);
  trial.measure('idle connections', count);
  trial.measure('idle connections per s', Math.round(count / ((performance.now() - startMs) / 1000)));
  trial.measure('kB per idle connection', Math.round((residentBytes(gateway.program.pid) - before.bytes) / count / 100) / 10);
  return sockets;
}

export const poison: Scenario = {
  name: 'poison',
  about: 'malformed MQTT, HTTP, MessagePack and uplink input, slow and stuck subscribers, oversized packets, idle connections',
  needs: [],
  announcedLoss: false,
  control: null,
  async run(trial) {
    const system = await trial.start({ gatewayArgs: ['--topics', TOPIC_RULES, '--mqtt-connections-max', '20000'] });
    const { gateway, hub } = system;
    const pids = [gateway.program.pid, hub.program.pid];
    const idle = idleConnections();
    if (idle < IDLE_CONNECTIONS)
      trial.log(`${idle} idle connections instead of ${IDLE_CONNECTIONS}: raise the limit of open files (ulimit -n)`);
    const sockets = await openIdle(trial, system, idle);
    trial.fault('idle connections', String(idle));
    trial.faultsBegin();
    const rounds = new Rounds(Object.keys(ATTACKS), trial.random);
    while (trial.goesOn) {
      const name = rounds.next();
      trial.fault(name);
      try {
        await ATTACKS[name]?.(trial, system);
      } catch (error) {
        trial.violation(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      }
      await trial.pause(0, 500);
      if (!gateway.program.isRunning || !hub.program.isRunning) break;
    }
    const closed = sockets.filter(({ destroyed }) => destroyed).length;
    if (closed > 0) trial.violation(`${closed} of ${idle} idle connections were closed`);
    for (const [index, program] of [gateway.program, hub.program].entries()) {
      if (!program.isRunning || program.pid !== pids[index]) continue; // settle says so
      const megabytes = Math.round(residentBytes(program.pid) / 1e6);
      trial.measure(`${program.name} MB`, megabytes);
      if (megabytes > MEGABYTES_MAX) trial.violation(`${program.name} takes ${megabytes} MB, ${MEGABYTES_MAX} MB is the limit`);
    }
    await trial.settle(system);
  },
};
