/** What every object store promises, as tests that any implementation runs. */
import { describe, expect, test } from 'vitest';
import { isSluiceError } from '../../shared/errors.ts';
import { listAll, type ObjectStore } from './store.ts';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array | null): string | null => (value === null ? null : new TextDecoder().decode(value));

/** @param makeStore a fresh, empty store each time */
export function storeContract(name: string, makeStore: () => Promise<ObjectStore>): void {
  describe(`${name} keeps the store contract`, () => {
    test('put if absent creates once and leaves the first bytes alone', async () => {
      const store = await makeStore();
      expect(await store.putIfAbsent('a/b', bytes('first'))).toBe('created');
      expect(await store.putIfAbsent('a/b', bytes('second'))).toBe('exists');
      expect(text(await store.get('a/b'))).toBe('first');
    });

    test('of many concurrent put-if-absents of one key exactly one creates, and its bytes stand', async () => {
      const store = await makeStore();
      const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => store.putIfAbsent('race/key', bytes(`writer ${index}`))));
      expect(answers.filter((answer) => answer === 'created')).toHaveLength(1);
      expect(text(await store.get('race/key'))).toBe(`writer ${answers.indexOf('created')}`);
    });

    test('put replaces the whole object', async () => {
      const store = await makeStore();
      await store.put('x', bytes('a long first version'));
      await store.put('x', bytes('short'));
      expect(text(await store.get('x'))).toBe('short');
    });

    test('what is not there is null, and deleting it is no error', async () => {
      const store = await makeStore();
      expect(await store.get('no/such')).toBeNull();
      expect(await store.getRange('no/such', 0, 1)).toBeNull();
      expect(await store.stat('no/such')).toBeNull();
      await store.delete('no/such');
      await store.put('file', bytes('1'));
      expect(await store.get('file/below')).toBeNull();
      await store.putIfAbsent('folder/file', bytes('1'));
      expect(await store.get('folder')).toBeNull();
      expect(await store.stat('folder')).toBeNull();
    });

    test('a range is cut at the end of the object', async () => {
      const store = await makeStore();
      await store.put('r', bytes('0123456789'));
      expect(text(await store.getRange('r', 2, 5))).toBe('234');
      expect(text(await store.getRange('r', 8, 100))).toBe('89');
      expect(text(await store.getRange('r', 100, 200))).toBe('');
      expect(text(await store.getRange('r', 3, 3))).toBe('');
      await expect(store.getRange('r', 5, 2)).rejects.toSatisfy((error) => isSluiceError(error, 'ERR_STORE_RANGE'));
    });

    test('a deleted key can be created again', async () => {
      const store = await makeStore();
      await store.putIfAbsent('k', bytes('1'));
      await store.delete('k');
      expect(await store.putIfAbsent('k', bytes('2'))).toBe('created');
      expect(text(await store.get('k'))).toBe('2');
    });

    test('a listing is sorted by key across folders, with sizes, and pages by startAfter and limit', async () => {
      const store = await makeStore();
      // '-' and '.' sort before '/', '0' after it: a listing by folders gets this wrong.
      const keys = ['a-b', 'a.b', 'a/b', 'a/c/d', 'a0b', 'b', 'a/c-d', 'z/y/x'];
      for (const key of keys) await store.put(key, bytes(key));
      const sorted = [...keys].sort();
      const all = await store.list('');
      expect(all.map((entry) => entry.key)).toEqual(sorted);
      expect(all.every((entry) => entry.size === entry.key.length)).toBe(true);
      expect((await store.list('a/')).map((entry) => entry.key)).toEqual(['a/b', 'a/c-d', 'a/c/d']);
      expect((await store.list('a/c')).map((entry) => entry.key)).toEqual(['a/c-d', 'a/c/d']);
      expect((await store.list('', { limit: 3 })).map((entry) => entry.key)).toEqual(sorted.slice(0, 3));
      for (const [index, key] of sorted.entries()) {
        expect((await store.list('', { startAfter: key, limit: 2 })).map((entry) => entry.key)).toEqual(sorted.slice(index + 1, index + 3));
      }
      expect((await store.list('a/', { startAfter: 'a/c' })).map((entry) => entry.key)).toEqual(['a/c-d', 'a/c/d']);
      expect(await store.list('none/')).toEqual([]);
      const paged: string[] = [];
      for await (const entry of listAll(store, 'a')) paged.push(entry.key);
      expect(paged).toEqual(sorted.filter((key) => key.startsWith('a')));
    });

    test('a modification time does not go back from one write to the next', async () => {
      const store = await makeStore();
      await store.put('t1', bytes('1'));
      await store.put('t2', bytes('2'));
      const [first, second] = [await store.stat('t1'), await store.stat('t2')];
      expect(second?.modifiedMs).toBeGreaterThanOrEqual(first?.modifiedMs ?? Infinity);
    });

    test('the caller may reuse its buffer after a write, and change what it got', async () => {
      const store = await makeStore();
      const buffer = bytes('keep');
      await store.put('own', buffer);
      buffer.fill(0);
      const got = await store.get('own');
      got?.fill(0);
      expect(text(await store.get('own'))).toBe('keep');
    });

    test('an empty object is an object', async () => {
      const store = await makeStore();
      expect(await store.putIfAbsent('empty', new Uint8Array(0))).toBe('created');
      expect(await store.putIfAbsent('empty', bytes('no'))).toBe('exists');
      expect((await store.get('empty'))?.length).toBe(0);
      await store.settle('empty');
    });

    test.each(['', '/abs', 'a//b', 'a/', '../up', 'a/../b', './a', 'a\\b', 'a\nb', 'ü', 'x'.repeat(1025)])(
      'the key %j is refused',
      async (key) => {
        const store = await makeStore();
        for (const act of [
          store.get(key),
          store.put(key, bytes('x')),
          store.putIfAbsent(key, bytes('x')),
          store.stat(key),
          store.delete(key),
        ]) {
          await expect(act).rejects.toSatisfy((error) => isSluiceError(error, 'ERR_STORE_KEY'));
        }
        expect(await store.list('')).toEqual([]);
      },
    );
  });
}
