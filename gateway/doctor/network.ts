/** Ports that the gateway wants, and the hub that it sends to. */
import { createServer } from 'node:net';
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../shared/clock.ts';
import { errorMessage, isSluiceError } from '../../shared/errors.ts';
import { isLoopback } from '../../shared/listen.ts';
import { findPortOwner } from '../../shared/port-owner.ts';
import { UPLINK_PATH, UPLINK_SUBPROTOCOL } from '../../shared/uplink.ts';
import type { GatewayConfig } from '../config.ts';
import { askHub } from '../enroll/hub-request.ts';
import { fail, ok, warn, type Check } from './check.ts';

const TIMEOUT_MS = 10_000;
const CLOCK_SECONDS_MAX = 30;

type Try = 'free' | 'busy' | 'denied' | 'no address';

function tryPort(host: string, port: number): Promise<{ result: Try; message: string }> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      const result = error.code === 'EADDRINUSE' ? 'busy' : error.code === 'EACCES' ? 'denied' : 'no address';
      resolve({ result, message: error.message });
    });
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve({ result: 'free', message: '' })));
  });
}

/** Does a gateway answer at its HTTP port? Then the others are its own too. */
async function gatewayAnswers({ http }: GatewayConfig): Promise<boolean> {
  if (http.port === 0 || http.tls.cert !== null) return false;
  const host = isLoopback(http.host) || http.host === '0.0.0.0' || http.host === '::' ? '127.0.0.1' : http.host;
  try {
    const answer = await askHub({
      hub: `http://${host}:${http.port}`,
      path: '/v1/status',
      method: 'GET',
      caFile: null,
      timeoutMs: TIMEOUT_MS,
    });
    return answer.status === 200 && answer.body.includes('"journal"');
  } catch {
    return false; // nobody, or somebody else
  }
}

export async function checkPorts(config: GatewayConfig): Promise<Check> {
  const name = 'ports';
  const wanted = [
    { what: 'mqtt.port', host: config.mqtt.host, port: config.mqtt.port },
    { what: 'mqtt.wsPort', host: config.mqtt.host, port: config.mqtt.wsPort ?? 0 },
    { what: 'http.port', host: config.http.host, port: config.http.port },
  ].filter(({ port }) => port !== 0);
  const busy: string[] = [];
  for (const { what, host, port } of wanted) {
    const { result, message } = await tryPort(host, port);
    if (result === 'denied') return fail(name, `${what} ${port}: not permitted`, 'ports below 1024 need a privilege: choose another one');
    if (result === 'no address')
      return fail(name, `${what}: ${host}:${port}: ${message}`, `is ${host} an address of this machine (ip addr)?`);
    if (result === 'busy') busy.push(`${what} ${port} (${ownerText(port)})`);
  }
  if (busy.length === 0) return ok(name, wanted.length === 0 ? 'any free ones' : `${wanted.map(({ port }) => port).join(', ')} are free`);
  if (await gatewayAnswers(config)) return ok(name, 'taken by the gateway, which runs');
  return fail(
    name,
    `taken: ${busy.join(', ')}`,
    'stop what listens there (an other MQTT broker: sudo systemctl disable --now mosquitto), or set another port',
  );
}

function ownerText(port: number): string {
  const owner = findPortOwner(port);
  return owner === null ? 'sudo ss -ltnp shows by whom' : `by process ${owner.pid}, ${owner.command}`;
}

/** @param config with what `enroll` received */
export async function checkHub({ uplink }: GatewayConfig, clock: Pick<Clock, 'nowUs' | 'monotonicUs'>): Promise<Check[]> {
  const { url, caFile } = uplink;
  if (url === null) return [warn('hub', 'none is set: readings are buffered only', 'sluice-gateway enroll --hub URL --token TOKEN')];
  const hub = url.replace(/^ws/, 'http');
  const startUs = clock.monotonicUs();
  try {
    const { status, headers } = await askHub({ hub, path: '/healthz', method: 'GET', caFile, timeoutMs: TIMEOUT_MS });
    const took = `${((clock.monotonicUs() - startUs) / 1000).toFixed(0)} ms`;
    if (status !== 200)
      return [
        fail('hub', `${hub} answered HTTP ${status} to /healthz`, 'is it a Sluice hub, or a proxy whose hub is away? check the address'),
      ];
    return [ok('hub', `${hub} answers within ${took}`), ...hubClock(headers.date, clock), await checkCredential(uplink, hub)];
  } catch (error) {
    const advice = isSluiceError(error, 'ERR_UPLINK_URL')
      ? 'correct uplink.url or uplink.caFile'
      : 'readings are buffered until it can be reached';
    return [fail('hub', errorMessage(error), advice)];
  }
}

function hubClock(date: string | undefined, clock: Pick<Clock, 'nowUs'>): Check[] {
  const hubMs = Date.parse(date ?? '');
  if (!Number.isFinite(hubMs)) return [];
  const seconds = Math.round(clock.nowUs() / 1e6 - hubMs / 1e3);
  if (Math.abs(seconds) <= CLOCK_SECONDS_MAX) return [ok('clock against the hub', `within ${CLOCK_SECONDS_MAX} s`)];
  return [
    fail(
      'clock against the hub',
      `this machine is ${Math.abs(seconds)} s ${seconds > 0 ? 'ahead of' : 'behind'} the hub`,
      'one of the two is wrong: timedatectl on both',
    ),
  ];
}

/** Opens an uplink and closes it before it says anything. */
async function checkCredential({ token, caFile }: GatewayConfig['uplink'], hub: string): Promise<Check> {
  const name = 'hub credential';
  const enrolAgain = 'make a new one: sluice-hub token create --enroll NAME, then sluice-gateway enroll --replace';
  if (token === null) return fail(name, 'there is none', enrolAgain);
  const { status } = await askHub({
    hub,
    path: UPLINK_PATH,
    method: 'GET',
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': randomBytes(16).toString('base64'),
      'sec-websocket-protocol': UPLINK_SUBPROTOCOL,
      authorization: `Bearer ${token}`,
    },
    caFile,
    timeoutMs: TIMEOUT_MS,
  });
  if (status === 101) return ok(name, 'the hub accepts it');
  if (status === 401 || status === 403) return fail(name, `the hub does not know it (HTTP ${status})`, enrolAgain);
  if (status === 503) return warn(name, 'the hub is starting, stopping or at its limit', 'ask again in a minute');
  return fail(name, `the hub answered HTTP ${status} to ${UPLINK_PATH}`, 'a proxy in between has to pass WebSockets on');
}
