import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../shared/clock.ts';
import { Access } from './access.ts';
import { accessConfigSchema } from './config.ts';
import { Credentials, addDevice, credentialsPath, listDevices, removeDevice } from './credentials.ts';

let directory: string;
let file: string;
const now = new Date(0);

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-credentials-'));
  file = credentialsPath(path.join(directory, 'data'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('a secret has 128 bits, is stored as its hash only, in a file of its owner', () => {
  const secret = addDevice(file, 'd1', { anyDevice: false, now });
  expect(Buffer.from(secret, 'base64url')).toHaveLength(16);
  expect(readFileSync(file, 'utf8')).not.toContain(secret);
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test('a running gateway learns of new and removed devices within a second', () => {
  const clock = new ManualClock(0);
  const credentials = new Credentials(file, clock);
  expect(credentials.size).toBe(0);
  const secret = addDevice(file, 'd1', { anyDevice: false, now });
  clock.advance(1_000_000);
  expect(credentials.verify('d1', secret)?.name).toBe('d1');
  expect(credentials.verify('d1', `${secret}x`)).toBeNull();
  expect(credentials.verify('d2', secret)).toBeNull();
  expect(credentials.verifyToken(secret)?.name).toBe('d1');
  expect(credentials.verifyToken(`d1:${secret}`)?.name).toBe('d1');
  removeDevice(file, 'd1');
  clock.advance(1_000_000);
  expect(credentials.verify('d1', secret)).toBeNull();
  expect(listDevices(file)).toEqual([]);
});

test('a damaged file refuses the start, and leaves a running gateway as it was', () => {
  const clock = new ManualClock(0);
  const secret = addDevice(file, 'd1', { anyDevice: false, now });
  const faults: unknown[] = [];
  const credentials = new Credentials(file, clock, (error) => faults.push(error));
  writeFileSync(file, '{"version":1,"devices":[{"name":');
  clock.advance(1_000_000);
  expect(credentials.verify('d1', secret)?.name).toBe('d1');
  expect(faults).toMatchObject([{ code: 'ERR_CREDENTIALS_FILE' }]);
  expect(() => new Credentials(file, clock)).toThrowError(expect.objectContaining({ code: 'ERR_CREDENTIALS_FILE' }));
});

test.each(['', '../x', 'a b', 'a/b', '-a', 'x'.repeat(129), '__proto__'])('%j is no device name', (name) => {
  expect(() => addDevice(file, name, { anyDevice: false, now })).toThrowError(expect.objectContaining({ code: 'ERR_CREDENTIALS_NAME' }));
});

test('a second credential of a name and the removal of none are refused', () => {
  addDevice(file, 'd1', { anyDevice: false, now });
  expect(() => addDevice(file, 'd1', { anyDevice: false, now })).toThrowError(expect.objectContaining({ code: 'ERR_CREDENTIALS_NAME' }));
  expect(() => removeDevice(file, 'd2')).toThrowError(expect.objectContaining({ code: 'ERR_CREDENTIALS_NAME' }));
});

test.each([
  // anonymous, any credential, address → may an anonymous client write?
  [null, false, '127.0.0.1', true],
  [null, false, '::ffff:127.0.0.1', true],
  [null, false, '192.0.2.1', false],
  [null, true, '127.0.0.1', false],
  [true, true, '127.0.0.1', true],
  [true, true, '192.0.2.1', false],
  [false, false, '127.0.0.1', false],
])('anonymous %s with credentials %s from %s: %s', (anonymous, configured, address, allowed) => {
  if (configured) addDevice(file, 'd1', { anyDevice: false, now });
  const access = new Access(accessConfigSchema.parse({ anonymous }), new Credentials(file, new ManualClock(0)));
  expect(access.check(address, null, '')).toEqual(allowed ? { name: null, onlyDevice: null } : 'missing');
});
