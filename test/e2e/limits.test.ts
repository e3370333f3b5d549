/** What happens at the limits that a user meets: a port that is taken, a directory that is in use, a buffer that is full. */
import { randomBytes } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { fetchJson, Lab, Program, until } from './processes.ts';
import { exchange, mqttConnect, mqttPackets, mqttPublish, PUBACK } from './raw-clients.ts';

let lab: Lab;
afterEach(() => lab.close());

interface Status {
  readonly backlog: { readonly readings: number; readonly exceptions: number };
  readonly exceptions: { readonly losses: readonly { readonly reason: string; readonly readings: number }[] };
}
interface Exceptions {
  readonly rows: readonly { readonly kind: string; readonly reason: string; readonly reading_count: number }[];
}

test('a taken port and a data directory in use end the second program, which says why and what to do', { timeout: 40_000 }, async () => {
  lab = new Lab();
  const hub = await lab.hub();
  const gateway = await lab.gateway('gw-1', null);
  const secondHub = new Program('second hub', 'hub/main.js', ['--lake-dir', lab.lakeDir, '--http-port', String(hub.port)], null);
  const freePorts = ['--mqtt-port', '0', '--mqtt-ws-port', '0', '--http-port', '0'];
  const secondGateway = new Program('second gateway', 'gateway/main.js', ['--data-dir', gateway.dataDir, ...freePorts], null);
  secondHub.spawn();
  secondGateway.spawn();
  expect(await secondHub.exit()).toBe(1);
  expect(secondHub.log).toContain('ERR_LISTEN_PORT_BUSY');
  expect(secondHub.log).toContain(`process ${hub.program.pid}`);
  expect(secondHub.log).toContain('--http-port');
  expect(await secondGateway.exit()).toBe(1);
  expect(secondGateway.log).toContain('ERR_JOURNAL_LOCKED');
  for (const url of [hub.url, gateway.httpUrl]) expect((await fetch(`${url}/readyz`)).status).toBe(200);
});

test('a full buffer drops the oldest: what arrives and what the gaps count are what was acknowledged', { timeout: 60_000 }, async () => {
  lab = new Lab();
  const hub = await lab.hub();
  const gateway = await lab.gateway('gw-1', hub.url, [
    ...['--journal-buffer-bytes-max', String(16 * 1024 * 1024), '--journal-buffer-policy', 'drop-oldest'],
    ...['--uplink-backoff-ms-max', '500'],
  ]);
  const status = (): Promise<Status> => fetchJson<Status>(`${gateway.httpUrl}/v1/status`);
  const lossOf = ({ exceptions }: Status): number => exceptions.losses.reduce((sum, { readings }) => sum + readings, 0);
  // Texts that nothing compresses by much fill the buffer with few readings.
  let messageId = 0;
  const flood = async (messages: number): Promise<number> => {
    const packets = Array.from({ length: messages }, () =>
      mqttPublish(
        'devices/flood/telemetry',
        JSON.stringify({ ts: Date.now(), n: 1, text: randomBytes(45_000).toString('base64') }),
        1 + (messageId++ % 60_000),
      ),
    );
    const acks = (received: Buffer): number => mqttPackets(received).filter(({ type }) => type === PUBACK).length;
    const answer = await exchange(gateway.mqttPort, Buffer.concat([mqttConnect('flood'), ...packets]), {
      until: (received) => acks(received) === messages,
      timeoutMs: 20_000,
    });
    return acks(answer.received);
  };
  let acknowledged = await flood(1);
  await until('the first', async () => ((await status()).backlog.readings === 0 ? true : null));
  await hub.program.kill();
  while (lossOf(await status()) < 50) {
    const taken = await flood(40);
    expect(taken, 'nothing is refused').toBe(40);
    acknowledged += taken;
  }
  await until('all to be sealed', async () => {
    const before = lossOf(await status());
    await new Promise((resolve) => setTimeout(resolve, 700)); // two intervals of sealing
    return lossOf(await status()) === before ? true : null;
  });
  const lost = lossOf(await status());
  await hub.program.start();
  await until('the backlog to be sent', async () => {
    const { readings, exceptions } = (await status()).backlog;
    return readings + exceptions === 0 ? true : null;
  });
  expect(lossOf(await status()), 'nothing is dropped for being sent').toBe(lost);
  const { rows } = await fetchJson<Exceptions>(`${hub.url}/v1/exceptions?limit=1000`);
  expect(new Set(rows.map(({ kind, reason }) => `${kind}/${reason}`))).toEqual(new Set(['gap/buffer_full']));
  const gaps = rows.reduce((sum, { reading_count }) => sum + reading_count, 0);
  const series = await fetchJson<{ rows: readonly { count: number }[] }>(`${hub.url}/v1/series?device=flood&metric=n`);
  const messages = series.rows.reduce((sum, { count }) => sum + count, 0);
  // Two readings a message, of which the windows count the one with a value.
  expect({ gaps, messages: messages + gaps / 2 }).toEqual({ gaps: lost, messages: acknowledged });
});
