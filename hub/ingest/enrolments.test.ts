import { createHash, randomBytes } from 'node:crypto';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { MemoryStore } from '../lake/memory-store.ts';
import { createEnrolment, Enrolments } from './enrolments.ts';
import { ENROLMENTS_PREFIX, listTokens, revokeToken, TokenRegistry } from './tokens.ts';

const DAY_MS = 86_400_000;
const logger = pino({ level: 'silent' });

function secret(): { token: string; sha256: string } {
  const token = `slc_${randomBytes(16).toString('base64url')}`;
  return { token, sha256: createHash('sha256').update(token).digest('hex') };
}

function setUp(): { clock: ManualClock; store: MemoryStore; hub: Enrolments } {
  const clock = new ManualClock(1_785_000_000_000_000);
  const store = new MemoryStore(clock);
  return { clock, store, hub: new Enrolments(store, clock) };
}

describe('an enrolment', () => {
  test("makes the gateway's own secret a valid token of that gateway, and the lake knows neither secret", async () => {
    const { clock, store, hub } = setUp();
    const { token } = await createEnrolment(store, 'site-1', DAY_MS, clock, randomBytes);
    const own = secret();
    expect(await hub.enroll(token, own.sha256)).toBe('site-1');
    const registry = await TokenRegistry.open(store, clock, logger);
    expect(await registry.verify(own.token)).toMatchObject({ kind: 'gateway', gateway: 'site-1' });
    expect(await registry.verify(token)).toBeNull();
    for (const { key } of await store.list('_sluice/')) {
      const stored = Buffer.from((await store.get(key)) ?? []).toString();
      expect(stored).not.toContain(own.token);
      expect(stored).not.toContain(token);
    }
    registry.stop();
  });

  test('may be repeated with the same secret, as after an answer that was lost, and with no other one', async () => {
    const { clock, store, hub } = setUp();
    const { token } = await createEnrolment(store, 'site-1', DAY_MS, clock, randomBytes);
    const own = secret();
    await hub.enroll(token, own.sha256);
    expect(await new Enrolments(store, clock).enroll(token, own.sha256)).toBe('site-1');
    await expect(hub.enroll(token, secret().sha256)).rejects.toMatchObject({ code: 'ERR_ENROLL_TOKEN' });
    expect(await listTokens(store)).toHaveLength(1);
  });

  test('goes to one of two gateways that use it at once at two hubs', async () => {
    const { clock, store, hub } = setUp();
    const { token } = await createEnrolment(store, 'site-1', DAY_MS, clock, randomBytes);
    const answers = await Promise.allSettled([
      hub.enroll(token, secret().sha256),
      new Enrolments(store, clock).enroll(token, secret().sha256),
    ]);
    expect(answers.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(await listTokens(store)).toHaveLength(1);
  });

  test('that broke off between its steps is finished by repeating it', async () => {
    for (const failing of ['.claim', '/tokens/']) {
      for (const happens of [false, true]) {
        const { clock, store, hub } = setUp();
        const { token } = await createEnrolment(store, 'site-1', DAY_MS, clock, randomBytes);
        const own = secret();
        let failed = false;
        store.hook = (operation, key) => {
          if (failed || operation !== 'putIfAbsent' || !key.includes(failing)) return null;
          failed = true;
          return happens ? 'fail-after' : 'fail-before';
        };
        await expect(hub.enroll(token, own.sha256)).rejects.toMatchObject({ code: 'ERR_STORE_IO' });
        expect(await hub.enroll(token, own.sha256)).toBe('site-1');
        expect(await listTokens(store)).toHaveLength(1);
      }
    }
  });

  test('ends with its day, and one that was claimed in time may still be repeated', async () => {
    const { clock, store, hub } = setUp();
    const late = await createEnrolment(store, 'late', DAY_MS, clock, randomBytes);
    const used = await createEnrolment(store, 'used', DAY_MS, clock, randomBytes);
    const own = secret();
    await hub.enroll(used.token, own.sha256);
    clock.advance(DAY_MS * 1000);
    await expect(hub.enroll(late.token, secret().sha256)).rejects.toMatchObject({ code: 'ERR_ENROLL_TOKEN' });
    expect(await hub.enroll(used.token, own.sha256)).toBe('used');
  });

  test('does not bring back a token that was revoked', async () => {
    const { clock, store, hub } = setUp();
    const { token } = await createEnrolment(store, 'site-1', DAY_MS, clock, randomBytes);
    const own = secret();
    await hub.enroll(token, own.sha256);
    await revokeToken(store, own.sha256.slice(0, 16));
    await expect(hub.enroll(token, own.sha256)).rejects.toMatchObject({ code: 'ERR_ENROLL_TOKEN' });
    expect(await listTokens(store)).toEqual([]);
  });

  test('is refused with advice when the token is another kind, unknown, or the hash is none', async () => {
    const { clock, store, hub } = setUp();
    const { token } = await createEnrolment(store, 'site-1', DAY_MS, clock, randomBytes);
    const { sha256 } = secret();
    for (const wrong of [null, '', 'sle_', secret().token, `sle_${'A'.repeat(22)}`, '../../../etc/passwd'])
      await expect(hub.enroll(wrong, sha256)).rejects.toMatchObject({ code: 'ERR_ENROLL_TOKEN' });
    for (const wrong of ['', sha256.toUpperCase(), `${sha256}0`, '../x'])
      await expect(hub.enroll(token, wrong)).rejects.toMatchObject({ code: 'ERR_ENROLL_REQUEST' });
    await expect(createEnrolment(store, '../x', DAY_MS, clock, randomBytes)).rejects.toMatchObject({ code: 'ERR_TOKEN_GATEWAY_NAME' });
  });

  test('is forgotten a month after it expired, so that they do not pile up', async () => {
    const { clock, store } = setUp();
    await createEnrolment(store, 'old', DAY_MS, clock, randomBytes);
    clock.advance(32 * DAY_MS * 1000);
    await createEnrolment(store, 'new', DAY_MS, clock, randomBytes);
    expect(await store.list(ENROLMENTS_PREFIX)).toHaveLength(1);
  });
});
