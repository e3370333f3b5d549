import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { mqttConnect, mqttPublish } from '../e2e/raw-clients.ts';
import { EarlyAckProxy } from './early-ack.ts';

test('a gateway that acknowledges on receipt answers at once, forwards all, and keeps the true acknowledgement to itself', async () => {
  const received: Buffer[] = [];
  let gatewaySide: Socket | null = null;
  const gateway = createServer((socket) => {
    gatewaySide = socket;
    socket.on('data', (chunk) => received.push(chunk));
    socket.on('error', () => undefined); // its peer goes away at the end
  });
  await new Promise<void>((resolve) => gateway.listen(0, '127.0.0.1', resolve));
  const proxy = await EarlyAckProxy.to((gateway.address() as AddressInfo).port);
  const device = connect(proxy.port, '127.0.0.1');
  const answers: Buffer[] = [];
  device.on('data', (chunk) => answers.push(chunk));
  const sent = Buffer.concat([mqttConnect('d'), mqttPublish('devices/d/telemetry', '{"a":1}', 0x0102), Buffer.from([0x62, 2, 0, 9])]);
  // Cut anywhere: packets are put together again.
  for (const byte of sent) device.write(Uint8Array.of(byte));
  await expect.poll(() => Buffer.concat(received)).toEqual(sent);
  const early = Buffer.from([0x40, 2, 1, 2, 0x70, 2, 0, 9]);
  await expect.poll(() => Buffer.concat(answers)).toEqual(early);
  expect(proxy.earlyAcks).toBe(2);
  (gatewaySide as unknown as Socket).write(Buffer.from([0x20, 2, 0, 0, 0x40, 2, 1, 2, 0xd0, 0]));
  await expect.poll(() => Buffer.concat(answers)).toEqual(Buffer.concat([early, Buffer.from([0x20, 2, 0, 0, 0xd0, 0])]));
  device.destroy();
  await proxy.close();
  await new Promise((resolve) => gateway.close(resolve));
});
