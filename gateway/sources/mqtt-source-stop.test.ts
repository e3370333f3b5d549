import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import { MemoryJournal } from '../broker/memory-journal.ts';
import { Decoder } from '../decode/decoder.ts';
import { createIngestCounters } from '../ingest-counters.ts';
import { MessageTap } from '../tail/message-tap.ts';
import { mqttSourceSchema } from './mqtt-settings.ts';
import { MqttSource } from './mqtt-source.ts';

test('a broker that has fallen silent does not hold up a stop beyond its deadline', async () => {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'sluice-source-'));
  const sockets: Socket[] = [];
  // Answers CONNECT and SUBSCRIBE, and never again; nor does it close when the other end does.
  const broker = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      if (bytes[0] === 0x10) socket.write(Buffer.of(0x20, 2, 0, 0));
      if (bytes[0] === 0x82) socket.write(Buffer.of(0x90, 3, bytes[2], bytes[3], 1));
    });
  });
  await new Promise<void>((resolve) => broker.listen(0, '127.0.0.1', resolve));
  const journal = new MemoryJournal();
  const source = new MqttSource({
    settings: mqttSourceSchema.parse({ name: 's', url: `mqtt://127.0.0.1:${(broker.address() as AddressInfo).port}`, topics: ['#'] }),
    packetBytesMax: 65_536,
    decoder: new Decoder([], journal.series),
    journal,
    clock: systemClock,
    random: Math.random,
    counters: createIngestCounters(),
    logger: createLogger('test', 'silent'),
    tap: new MessageTap(journal.series, systemClock),
    dataDir,
  });
  try {
    while (source.status().state !== 'connected') await new Promise((resolve) => setTimeout(resolve, 5));
    await source.stop(50);
    expect(source.status().state).toBe('stopped');
  } finally {
    for (const socket of sockets) socket.destroy();
    broker.close();
    rmSync(dataDir, { recursive: true });
  }
}, 3_000);
