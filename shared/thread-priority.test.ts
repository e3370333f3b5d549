import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';

const module = pathToFileURL(path.resolve('dist', 'shared', 'thread-priority.js')).href;

/** Runs in a thread of its own, since a priority that is lowered stays so. */
function inThread(code: string): Promise<unknown> {
  const source = `
    const { parentPort } = require('node:worker_threads');
    const fs = require('node:fs');
    const nice = () => Number(fs.readFileSync('/proc/thread-self/stat', 'utf8').split(') ')[1].split(' ')[16]);
    const logger = { debug() {} };
    import(${JSON.stringify(module)}).then(({ lowerThreadPriority }) => parentPort.postMessage((() => { ${code} })()));`;
  return new Promise((resolve, reject) => {
    const worker = new Worker(source, { eval: true });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

test.skipIf(!existsSync('/proc/thread-self'))('a thread lowers its own priority and no other one, to the lowest at most', async () => {
  const before = os.getPriority(process.pid);
  expect(before).toBeLessThanOrEqual(10);
  expect(await inThread('lowerThreadPriority(5, logger); return nice();')).toBe(before + 5);
  expect(await inThread('lowerThreadPriority(15, logger); lowerThreadPriority(15, logger); return nice();')).toBe(19);
  expect(await inThread('return nice();')).toBe(before);
  expect(os.getPriority(process.pid)).toBe(before);
});
