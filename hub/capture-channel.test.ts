import { MessageChannel } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { CaptureClient, serveCaptures } from './capture-channel.ts';
import type { AggregateCapture } from './engine-api.ts';

const CAPTURE_MS = 5;
const CAPTURES = 30;

test('captures beyond what the engine can make leave it half of its time, and are all made', async () => {
  const { port1, port2 } = new MessageChannel();
  const client = new CaptureClient(port1);
  onTestFinished(() => client.close());
  let busyMs = 0;
  const between = serveCaptures(port2, () => {
    const startMs = performance.now();
    while (performance.now() < startMs + CAPTURE_MS);
    busyMs += performance.now() - startMs;
    return { tail: [] } as unknown as AggregateCapture;
  });
  const startMs = performance.now();
  let isOver = false;
  const filter = { window: '1m', fromUs: 0, toUs: 1, gateways: null, devices: null, metrics: null };
  const all = Promise.all(Array.from({ length: CAPTURES }, () => client.capture(filter))).then(() => (isOver = true));
  // The engine: it lets captures in between its steps, and the event loop once in a while.
  while (!isOver) {
    for (let step = 0; step < 10; step++) between();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await all;
  expect(busyMs).toBeLessThan((performance.now() - startMs) * 0.6);
});
