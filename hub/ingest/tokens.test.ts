import { createHash, randomBytes } from 'node:crypto';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { MemoryStore } from '../lake/memory-store.ts';
import { bearerToken, createToken, listTokens, revokeToken, TokenRegistry, TOKENS_PREFIX } from './tokens.ts';

const logger = pino({ level: 'silent' });

function setUp(): { clock: ManualClock; store: MemoryStore; reads: string[] } {
  const clock = new ManualClock(1_785_000_000_000_000);
  const store = new MemoryStore(clock);
  const reads: string[] = [];
  store.hook = (operation, key) => {
    reads.push(`${operation} ${key}`);
    return null;
  };
  return { clock, store, reads };
}

describe('a token', () => {
  test('is 128 random bits, of which the lake has only the SHA-256', async () => {
    const { clock, store } = setUp();
    const { token, record } = await createToken(store, 'gateway', 'pump-7', clock, randomBytes);
    expect(token).toMatch(/^slc_[A-Za-z0-9_-]{22}$/);
    const stored = Buffer.from((await store.get(`${TOKENS_PREFIX}${record.id}.json`)) ?? []).toString();
    expect(stored).not.toContain(token);
    expect(JSON.parse(stored)).toEqual({
      id: record.id,
      kind: 'gateway',
      gateway: 'pump-7',
      sha256: createHash('sha256').update(token).digest('hex'),
      createdUs: clock.nowUs(),
    });
  });

  test("names a gateway if and only if it is one's, with a name that can stand in a path", async () => {
    const { clock, store } = setUp();
    for (const name of ['', '../x', 'a/b', '.hidden', 'x'.repeat(65), 'ü', null]) {
      await expect(createToken(store, 'gateway', name, clock, randomBytes)).rejects.toMatchObject({ code: 'ERR_TOKEN_GATEWAY_NAME' });
    }
    await expect(createToken(store, 'read', 'pump-7', clock, randomBytes)).rejects.toMatchObject({ code: 'ERR_TOKEN_GATEWAY_NAME' });
    expect(await listTokens(store)).toEqual([]);
  });

  test('is revoked by its id; an unknown id is an error', async () => {
    const { clock, store } = setUp();
    const { record } = await createToken(store, 'admin', null, clock, randomBytes);
    expect(await listTokens(store)).toEqual([record]);
    for (const id of ['0'.repeat(16), '', '../../_delta_log/0'])
      await expect(revokeToken(store, id)).rejects.toMatchObject({ code: 'ERR_TOKEN_UNKNOWN' });
    await revokeToken(store, record.id);
    expect(await listTokens(store)).toEqual([]);
  });
});

describe('the registry', () => {
  test('finds a token made after it was opened, and after a revocation no longer, without restart', async () => {
    const { clock, store } = setUp();
    const registry = await TokenRegistry.open(store, clock, logger);
    const { token, record } = await createToken(store, 'read', null, clock, randomBytes);
    expect(await registry.verify(token)).toEqual(record);
    expect(registry.isCurrent(record.id)).toBe(true);
    await revokeToken(store, record.id);
    await registry.reload();
    expect(registry.isCurrent(record.id)).toBe(false);
    clock.advance(2_000_000);
    expect(await registry.verify(token)).toBeNull();
    registry.stop();
  });

  test('reads an object once, and lets strangers cause one listing a second', async () => {
    const { clock, store, reads } = setUp();
    await createToken(store, 'read', null, clock, randomBytes);
    const registry = await TokenRegistry.open(store, clock, logger);
    reads.length = 0;
    const guesses = Array.from({ length: 50 }, () => `slc_${randomBytes(16).toString('base64url')}`);
    for (const guess of guesses) expect(await registry.verify(guess)).toBeNull();
    for (const other of ['', 'slc_', '__proto__', 'x'.repeat(10_000), null]) expect(await registry.verify(other)).toBeNull();
    expect(reads).toEqual([`list ${TOKENS_PREFIX}`]);
    registry.stop();
  });

  test('a damaged object lets nobody in and harms no other; an unreadable store leaves the known tokens valid', async () => {
    const { clock, store } = setUp();
    const { token, record } = await createToken(store, 'read', null, clock, randomBytes);
    const forged = { ...record, id: 'f'.repeat(16) };
    await store.put(`${TOKENS_PREFIX}${forged.id}.json`, Buffer.from(JSON.stringify(forged)));
    await store.put(`${TOKENS_PREFIX}${'e'.repeat(16)}.json`, Buffer.from('{'));
    await store.put(`${TOKENS_PREFIX}readme.txt`, Buffer.from('hello'));
    const registry = await TokenRegistry.open(store, clock, logger);
    expect(registry.list()).toEqual([record]);
    store.hook = () => 'fail-before';
    await registry.reload();
    expect(await registry.verify(token)).toEqual(record);
    registry.stop();
  });
});

test('a bearer header is read case-insensitively, and anything else is nobody', () => {
  expect(bearerToken('Bearer abc')).toBe('abc');
  expect(bearerToken('bearer  abc ')).toBe('abc');
  for (const header of [undefined, '', 'Basic abc', 'Bearer', 'Bearer a b', `Bearer ${'x'.repeat(600)}`])
    expect(bearerToken(header)).toBeNull();
});
