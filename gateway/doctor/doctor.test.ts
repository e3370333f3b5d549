import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ManualClock, systemClock } from '../../shared/clock.ts';
import type { NtpState } from '../clock-sources.ts';
import { gatewayConfigSchema, type GatewayConfig } from '../config.ts';
import { checkClock, checkMemory, checkPower } from './machine.ts';
import { checkHub, checkPorts } from './network.ts';
import { checkLatency, checkPermissions, checkSpace } from './storage.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'sluice-doctor-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function put(file: string, text: string, mode = 0o644): void {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
  writeFileSync(path.join(root, file), text);
  chmodSync(path.join(root, file), mode);
}

function config(overrides: Record<string, unknown> = {}): GatewayConfig {
  return gatewayConfigSchema.parse({ dataDir: root, ...overrides });
}

describe('the power of a Raspberry Pi', () => {
  const pi = 'proc/device-tree/model';
  const flags = 'sys/devices/platform/soc/soc:firmware/get_throttled';

  test('fails under-voltage that is there now, and warns of what was since boot', async () => {
    put(pi, 'Raspberry Pi 4 Model B Rev 1.4\0');
    put(flags, '50005\n');
    expect(await checkPower(root)).toMatchObject({ result: 'fail', detail: 'now: under-voltage, throttled (0x50005)' });
    put(flags, '50000\n');
    expect(await checkPower(root)).toMatchObject({ result: 'warn', advice: expect.stringContaining('power supply') as string });
    put(flags, '80008\n');
    expect(await checkPower(root)).toMatchObject({ result: 'warn', advice: expect.stringContaining('heat sink') as string });
    put(flags, '0\n');
    expect(await checkPower(root)).toMatchObject({ result: 'ok' });
    put(flags, 'garbage');
    expect(await checkPower(root)).toMatchObject({ result: 'warn' });
  });

  test('is no question on another machine', async () => {
    expect(await checkPower(root)).toMatchObject({ result: 'ok' });
  });
});

test('a clock before this program was made fails, one that nobody keeps is a warning', async () => {
  const sources = (ntp: NtpState) => ({ bootId: 'b', isVirtual: false, ntp: () => Promise.resolve(ntp), rtcUs: () => null });
  expect(await checkClock(new ManualClock(0), sources('unsynchronised'))).toMatchObject({ result: 'fail' });
  const now = new ManualClock(Date.UTC(2027, 0, 1) * 1000);
  expect(await checkClock(now, sources('unsynchronised'))).toMatchObject({ result: 'warn' });
  expect(await checkClock(now, sources('synchronised'))).toMatchObject({ result: 'ok', advice: null });
});

test('memory that the gateway would not get is a warning', () => {
  put('proc/meminfo', 'MemTotal: 425000 kB\nMemAvailable:   61000 kB\n');
  expect(checkMemory(root)).toMatchObject({ result: 'warn' });
});

test('files of another user, and secrets that others may read, fail', () => {
  const { uid } = userInfo();
  put('journal/journal.db', '');
  put('hub.json', '{}', 0o600);
  expect(checkPermissions(root, uid)).toMatchObject({ result: 'ok' });
  chmodSync(path.join(root, 'hub.json'), 0o640);
  expect(checkPermissions(root, uid)).toMatchObject({
    result: 'fail',
    detail: expect.stringContaining('may be read by others (mode 640)') as string,
  });
  expect(checkPermissions(root, uid + 1)).toMatchObject({ result: 'fail', advice: expect.stringContaining('chown') as string });
  expect(checkPermissions(path.join(root, 'none'), uid)).toMatchObject({ result: 'warn' });
});

test('a disk that an outage would fill is a warning, one that is full already a failure; measuring leaves nothing behind', () => {
  expect(checkSpace(config())).toMatchObject({ result: 'ok' });
  expect(checkSpace(config({ journal: { bufferBytesMax: 2 ** 46 } }))).toMatchObject({ result: 'warn' });
  expect(checkSpace(config({ journal: { freeSpaceReserveBytes: 2 ** 46 } }))).toMatchObject({ result: 'fail' });
  expect(checkLatency(root, () => systemClock.monotonicUs()).detail).toMatch(
    /^write .* ms, fsync .* ms, 95 % below .* ms \(\d+ of 4 kB\)$/,
  );
  expect(readdirSync(root)).toEqual([]);
});

describe('ports', () => {
  let server: Server;
  beforeEach(() => new Promise<void>((resolve) => (server = createServer()).listen(0, '127.0.0.1', resolve)));
  afterEach(() => new Promise((resolve) => server.close(resolve)));

  test('that another program has fail with its name; free ones and any free one are right', async () => {
    const { port } = server.address() as AddressInfo;
    const taken = config({ mqtt: { port, wsPort: null }, http: { port: 0 } });
    expect(await checkPorts(taken)).toMatchObject({ result: 'fail', detail: expect.stringContaining(`process ${process.pid}`) as string });
    expect(await checkPorts(config({ mqtt: { port: 0, wsPort: null }, http: { port: 0 } }))).toMatchObject({ result: 'ok' });
    const elsewhere = config({ mqtt: { host: '192.0.2.1', port: 1883, wsPort: null }, http: { port: 0 } });
    expect(await checkPorts(elsewhere)).toMatchObject({
      result: 'fail',
      advice: expect.stringContaining('address of this machine') as string,
    });
  });
});

test('a hub that is not there fails with what to look at; none is a warning', async () => {
  expect(await checkHub(config(), systemClock)).toMatchObject([{ name: 'hub', result: 'warn' }]);
  const unreachable = config({ uplink: { url: 'http://127.0.0.1:9', token: 'slc_x' } });
  expect(await checkHub(unreachable, systemClock)).toMatchObject([
    { name: 'hub', result: 'fail', detail: expect.stringContaining('is the hub running') as string },
  ]);
  const wrong = config({ uplink: { url: 'mqtt://127.0.0.1', token: 'slc_x' } });
  expect(await checkHub(wrong, systemClock)).toMatchObject([
    { result: 'fail', detail: expect.stringContaining('cannot be a hub') as string },
  ]);
});
