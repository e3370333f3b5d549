import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { workerUrl } from '../../shared/worker-url.ts';
import { afterAll, describe, expect, test } from 'vitest';
import { isSluiceError } from '../../shared/errors.ts';
import { LocalStore } from './local-store.ts';
import { storeContract } from './store.contract.ts';

const directories: string[] = [];
async function makeDirectory(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'sluice-store-'));
  directories.push(directory);
  return directory;
}
afterAll(async () => {
  for (const directory of directories) await rm(directory, { recursive: true, force: true });
});

storeContract('LocalStore', async () => LocalStore.open(path.join(await makeDirectory(), 'deep', 'lake')));

function runRacer(directory: string, name: string, count: number): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const script = fileURLToPath(workerUrl(import.meta.url, './local-store.race'));
    const child = spawn(process.execPath, [script, directory, name, String(count)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve(JSON.parse(output) as number[]) : reject(new Error(`racer ended with ${code}`))));
  });
}

describe('LocalStore', () => {
  test('of several processes that race for a key exactly one creates it', async () => {
    const directory = await makeDirectory();
    const count = 100;
    const names = ['one', 'two', 'three'];
    const created = await Promise.all(names.map((name) => runRacer(directory, name, count)));
    expect(created.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, index) => index));
    const store = await LocalStore.open(directory);
    for (const [index, name] of names.entries()) {
      for (const key of created[index]) expect(new TextDecoder().decode((await store.get(`race/${key}`)) ?? undefined)).toBe(name);
    }
  }, 30_000);

  test('a write leaves no temp file, and an open deletes stale ones but not those of a write under way', async () => {
    const directory = await makeDirectory();
    const store = await LocalStore.open(directory);
    await store.putIfAbsent('a', new Uint8Array(1));
    await store.putIfAbsent('a', new Uint8Array(1));
    await store.put('a', new Uint8Array(2));
    const temps = path.join(directory, '.sluice-tmp');
    expect(await readdir(temps)).toEqual([]);
    await writeFile(path.join(temps, '1-old.tmp'), 'x');
    await utimes(path.join(temps, '1-old.tmp'), new Date(Date.now() - 7_200_000), new Date(Date.now() - 7_200_000));
    await writeFile(path.join(temps, '1-new.tmp'), 'x');
    await LocalStore.open(directory);
    expect(await readdir(temps)).toEqual(['1-new.tmp']);
    expect((await store.list('')).map((entry) => entry.key)).toEqual(['a']);
  });

  test('a directory that was removed from below is made again', async () => {
    const directory = await makeDirectory();
    const store = await LocalStore.open(directory);
    await store.putIfAbsent('day=1/a', new Uint8Array(1));
    await rm(path.join(directory, 'day=1'), { recursive: true });
    expect(await store.putIfAbsent('day=1/a', new Uint8Array(1))).toBe('created');
  });

  test('a file where the directory should be is a typed error', async () => {
    const directory = await makeDirectory();
    await writeFile(path.join(directory, 'lake'), 'x');
    await expect(LocalStore.open(path.join(directory, 'lake'))).rejects.toSatisfy((error) => isSluiceError(error, 'ERR_STORE_IO'));
  });
});
