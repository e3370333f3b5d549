import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { shareReads, type OnRead } from './shared-reads.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const clean of cleanups.splice(0)) clean();
});

/** Two ends of a connection; the accepted one reads by `onRead`. */
async function pair(onRead: (accepted: Socket) => OnRead): Promise<{ device: Socket; accepted: Socket; shared: boolean }> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  let shared = false;
  server.on('connection', (socket) => (shared = shareReads(socket, onRead(socket))));
  const device = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [accepted] = (await once(server, 'connection')) as [Socket];
  cleanups.push(() => {
    device.destroy();
    accepted.destroy();
    server.close();
  });
  return { device, accepted, shared };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

test('this Node has what it takes: without it a gateway would be slower, and nobody told', async () => {
  const { shared } = await pair(() => () => true);
  expect(shared).toBe(true);
});

test('all connections read into one buffer, each its own bytes', async () => {
  const got: string[] = [];
  const buffers = new Set<Buffer>();
  const keep: OnRead = (bytes, buffer) => {
    buffers.add(buffer);
    got.push(buffer.toString('utf8', 0, bytes));
    return true;
  };
  const [one, other] = [await pair(() => keep), await pair(() => keep)];
  one.device.write('one');
  await until(() => got.length === 1);
  other.device.write('other');
  await until(() => got.length === 2);
  expect(got).toEqual(['one', 'other']);
  expect(buffers.size).toBe(1);
});

test('what its stream has no room for stays with the sender until the stream is read, and its end arrives', async () => {
  const sent = 8 * 1024 * 1024;
  const { device, accepted } = await pair((socket) => (bytes, buffer) => socket.push(Buffer.from(buffer.subarray(0, bytes))));
  device.end(Buffer.alloc(sent));
  await until(() => accepted.readableLength >= accepted.readableHighWaterMark);
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(accepted.readableLength).toBeLessThan(accepted.readableHighWaterMark + 128 * 1024);
  let received = 0;
  accepted.on('readable', () => {
    for (let chunk: Buffer | null; (chunk = accepted.read() as Buffer | null) !== null;) received += chunk.length;
  });
  await once(accepted, 'end');
  expect(received).toBe(sent);
});
