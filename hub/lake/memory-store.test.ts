import { describe, expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { isSluiceError } from '../../shared/errors.ts';
import { MemoryStore } from './memory-store.ts';
import { storeContract } from './store.contract.ts';

storeContract('MemoryStore', () => Promise.resolve(new MemoryStore(systemClock)));

describe('MemoryStore faults', () => {
  test('fail-before leaves nothing behind, fail-after leaves the object', async () => {
    const store = new MemoryStore(systemClock);
    store.hook = (operation, key) => (operation === 'putIfAbsent' ? (key === 'before' ? 'fail-before' : 'fail-after') : null);
    for (const key of ['before', 'after']) {
      await expect(store.putIfAbsent(key, new Uint8Array(1))).rejects.toSatisfy((error) => isSluiceError(error, 'ERR_STORE_IO'));
    }
    expect(await store.get('before')).toBeNull();
    expect(await store.get('after')).toEqual(new Uint8Array(1));
  });

  test('clients share the objects and have hooks of their own', async () => {
    const store = new MemoryStore(systemClock);
    const broken = store.client(() => 'fail-before');
    await store.put('k', new Uint8Array(3));
    await expect(broken.get('k')).rejects.toSatisfy((error) => isSluiceError(error, 'ERR_STORE_IO'));
    expect((await store.client().get('k'))?.length).toBe(3);
  });
});
