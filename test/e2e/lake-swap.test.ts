/** A lake that is not the one that the gateway knows: another one, or its own from an hour ago. */
import { cpSync, renameSync, rmSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { fetchJson, Lab, until, type GatewayProgram } from './processes.ts';
import { exchange, mqttConnect, mqttPackets, mqttPublish, PUBACK } from './raw-clients.ts';

let lab: Lab;
afterEach(() => lab.close());

interface Status {
  readonly lake_id: string | null;
  readonly backlog: { readonly readings: number };
  readonly uplink: { readonly status: string; readonly last_error: { readonly code: string } | null };
}

const statusOf = (gateway: GatewayProgram): Promise<Status> => fetchJson<Status>(`${gateway.httpUrl}/v1/status`);

async function publish(gateway: GatewayProgram, from: number, to: number): Promise<void> {
  const packets = Array.from({ length: to - from }, (_, at) =>
    mqttPublish('devices/a/telemetry', JSON.stringify({ ts: Date.now() + at, n: from + at }), 1 + at),
  );
  const answer = await exchange(gateway.mqttPort, Buffer.concat([mqttConnect(`from-${from}`), ...packets]), {
    until: (received) => mqttPackets(received).filter(({ type }) => type === PUBACK).length === packets.length,
  });
  expect(answer.closed, lab.logs()).toBe(false);
}

const sent = (gateway: GatewayProgram): Promise<true> =>
  until('everything to be committed', async () => ((await statusOf(gateway)).backlog.readings === 0 ? true : null));

function valuesAre(hubUrl: string, expected: readonly number[]): Promise<true> {
  return until(`the readings ${expected.join(' ')}`, async () => {
    const { rows } = await fetchJson<{ rows: readonly { value: number }[] }>(`${hubUrl}/v1/readings?device=a`);
    return JSON.stringify(rows.map(({ value }) => value)) === JSON.stringify(expected) ? true : null;
  });
}

test(
  'a gateway sends nothing into another lake, says so, keeps its readings, and goes on when its own is back',
  { timeout: 60_000 },
  async () => {
    lab = new Lab();
    const hub = await lab.hub();
    const gateway = await lab.gateway('gw-1', hub.url, ['--uplink-lane-retry-ms', '1000']);
    await publish(gateway, 0, 3);
    await sent(gateway);
    const { lake_id: pinned } = await statusOf(gateway);
    await hub.program.stop();
    renameSync(lab.lakeDir, `${lab.lakeDir}.own`);
    // The emptied lake gets a token of its own, as an operator would make one.
    await lab.gatewayToken('gw-1');
    await gateway.program.stop();
    await hub.program.start();
    await gateway.program.start();
    await publish(gateway, 3, 5);
    await until('the refusal', async () => ((await statusOf(gateway)).uplink.status === 'wrong_lake' ? true : null));
    expect(await statusOf(gateway)).toMatchObject({
      lake_id: pinned,
      backlog: { readings: 2 },
      uplink: { last_error: { code: 'ERR_UPLINK_WRONG_LAKE' } },
    });
    expect(gateway.program.log).toContain('WRONG LAKE');
    await valuesAre(hub.url, []);
    await hub.program.stop();
    rmSync(lab.lakeDir, { recursive: true });
    renameSync(`${lab.lakeDir}.own`, lab.lakeDir);
    await lab.gatewayToken('gw-1');
    await gateway.program.stop();
    await hub.program.start();
    await gateway.program.start();
    await valuesAre(hub.url, [0, 1, 2, 3, 4]);
  },
);

test(
  'after the lake was put back from an older copy, what only the newer one had is a gap, and the lane goes on',
  { timeout: 60_000 },
  async () => {
    lab = new Lab();
    const hub = await lab.hub();
    const gateway = await lab.gateway('gw-1', hub.url, ['--uplink-backoff-ms-max', '500']);
    await publish(gateway, 0, 3);
    await sent(gateway);
    await hub.program.stop();
    cpSync(lab.lakeDir, `${lab.lakeDir}.copy`, { recursive: true });
    await hub.program.start();
    await publish(gateway, 3, 6);
    await sent(gateway);
    await hub.program.stop();
    rmSync(lab.lakeDir, { recursive: true });
    renameSync(`${lab.lakeDir}.copy`, lab.lakeDir);
    await hub.program.start();
    await publish(gateway, 6, 8);
    await valuesAre(hub.url, [0, 1, 2, 6, 7]);
    const { rows } = await fetchJson<{ rows: readonly unknown[] }>(`${hub.url}/v1/exceptions?from=0`);
    expect(rows).toMatchObject([
      { kind: 'gap', gateway: 'gw-1', reading_count: null, reason: expect.stringMatching(/^lake_behind_gateway/) as string },
    ]);
    await sent(gateway);
  },
);
