/** What MQTT clients rely on across a kill -9 of the gateway: redelivery, persistent sessions, queues, retained messages, QoS 2. */
import { connect as connectMqtt, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { fetchJson, Lab, until, type GatewayProgram } from './processes.ts';
import { exchange, mqttConnect, mqttPackets, mqttPublish, PUBACK } from './raw-clients.ts';

let lab: Lab;
const clients: MqttClient[] = [];

beforeEach(() => void (lab = new Lab()));

afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.endAsync(true)));
  await lab.close();
});

interface Device {
  readonly client: MqttClient;
  readonly heard: string[];
  readonly sessionPresent: boolean;
}

/** Listens before it is connected: a session's queue comes right behind the CONNACK. */
function device({ mqttPort }: GatewayProgram, clientId: string, clean = false): Promise<Device> {
  return new Promise((resolve, reject) => {
    const heard: string[] = [];
    const client = connectMqtt(`mqtt://127.0.0.1:${mqttPort}`, { clientId, clean, reconnectPeriod: 0 });
    clients.push(client);
    client.on('message', (topic, payload, { qos, retain }) =>
      heard.push(`${topic} ${payload.toString()} ${qos}${retain ? ' retained' : ''}`),
    );
    client.on('error', reject);
    client.on('connect', ({ sessionPresent }) => resolve({ client, heard, sessionPresent }));
  });
}

async function killAndStart({ program }: GatewayProgram): Promise<void> {
  await program.kill();
  await program.start();
}

interface Status {
  readonly ingest: { readonly redeliveries: number };
  readonly broker: { readonly sessions: number; readonly queued_messages: number; readonly retained_messages: number };
}

const statusOf = (gateway: GatewayProgram): Promise<Status> => fetchJson<Status>(`${gateway.httpUrl}/v1/status`);

test('messages with a time of their own that come again with DUP after a kill -9 are in the lake once', { timeout: 40_000 }, async () => {
  const hub = await lab.hub();
  const gateway = await lab.gateway('gw-1', hub.url);
  const count = 50;
  const start = Date.now();
  const messages = Array.from({ length: count }, (_, n) => mqttPublish('devices/a/telemetry', JSON.stringify({ ts: start + n, n }), n + 1));
  const send = async (packets: readonly Buffer[]): Promise<void> => {
    const answer = await exchange(gateway.mqttPort, Buffer.concat([mqttConnect('a'), ...packets]), {
      until: (received) => mqttPackets(received).filter(({ type }) => type === PUBACK).length === packets.length,
    });
    expect(answer.closed, lab.logs()).toBe(false);
  };
  const again = messages.map((packet) => {
    const copy = Buffer.from(packet);
    copy[0] |= 0x08;
    return copy;
  });
  await send(messages);
  await killAndStart(gateway);
  await send(again);
  expect((await statusOf(gateway)).ingest.redeliveries).toBe(count);
  // Once more, when the readings may have left the gateway: the keys stay.
  await send([...again, mqttPublish('devices/a/telemetry', JSON.stringify({ ts: start + count, n: count }), count + 1)]);
  const rows = await until('the last reading', async () => {
    const answer = await fetchJson<{ rows: readonly { value: number }[] }>(`${hub.url}/v1/readings?device=a`);
    return answer.rows.some(({ value }) => value === count) ? answer.rows : null;
  });
  expect(rows.map(({ value }) => value)).toEqual(Array.from({ length: count + 1 }, (_, n) => n));
});

test('subscriptions, commands for sleeping devices and retained messages outlive a kill -9', { timeout: 40_000 }, async () => {
  const gateway = await lab.gateway('gw-1', null);
  const sleeper = await device(gateway, 'sleeper');
  await sleeper.client.subscribeAsync('commands/sleeper/#', { qos: 2 });
  await sleeper.client.endAsync();
  const operator = await device(gateway, 'operator', true);
  const { client } = operator;
  await client.publishAsync('site/mode', 'day', { qos: 1, retain: true });
  await client.publishAsync('site/door', 'open', { qos: 1, retain: true });
  await client.publishAsync('site/door', '', { qos: 1, retain: true });
  await client.publishAsync('commands/sleeper/valve', 'open', { qos: 1 });
  await client.publishAsync('commands/sleeper/rate', '5', { qos: 2 });
  await client.publishAsync('commands/other', 'x', { qos: 1 });
  await client.publishAsync('site/mode', 'night', { qos: 1, retain: true });
  await client.publishAsync('commands/sleeper/valve', 'closed', { qos: 1 });
  await killAndStart(gateway); // right behind the last PUBACK
  expect((await statusOf(gateway)).broker).toMatchObject({ sessions: 1, queued_messages: 3, retained_messages: 1 });

  const awake = await device(gateway, 'sleeper');
  expect(awake.sessionPresent).toBe(true);
  await until('the commands', () => (awake.heard.length >= 3 ? true : null));
  const late = await device(gateway, 'late', true);
  await late.client.subscribeAsync('site/#', { qos: 1 });
  await until('what is retained', () => (late.heard.length > 0 ? true : null));
  expect(late.heard).toEqual(['site/mode night 1 retained']);
  await until('the queue to be empty', async () => ((await statusOf(gateway)).broker.queued_messages === 0 ? true : null));
  // Order holds within a QoS: the client shows a QoS 2 message only once it is released.
  expect(awake.heard.filter((message) => message.endsWith(' 1'))).toEqual([
    'commands/sleeper/valve open 1',
    'commands/sleeper/valve closed 1',
  ]);
  expect(awake.heard.filter((message) => message.endsWith(' 2'))).toEqual(['commands/sleeper/rate 5 2']);

  // What was taken away rides in the next commit; a clean session ends the old one.
  await late.client.publishAsync('site/mode', 'off', { qos: 1, retain: true });
  await killAndStart(gateway);
  expect((await statusOf(gateway)).broker).toMatchObject({ sessions: 1, queued_messages: 0, retained_messages: 1 });
  const clean = await device(gateway, 'sleeper', true);
  expect(clean.sessionPresent).toBe(false);
  await killAndStart(gateway);
  expect((await statusOf(gateway)).broker).toMatchObject({ sessions: 0, queued_messages: 0, retained_messages: 1 });
});
