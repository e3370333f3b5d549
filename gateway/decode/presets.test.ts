import { describe, expect, test } from 'vitest';
import { BoundedSeriesRegistry } from '../journal/registry.ts';
import { Decoder } from './decoder.ts';
import { suggestPreset } from './presets.ts';
import { CollectingSink, type CollectedReading } from './test-sink.ts';
import { topicRuleSchema } from './topic-rules.ts';

const ARRIVAL_US = 1_700_000_000_000_000;

function decode(preset: string, topic: string, payload: unknown, match?: string): { readings: CollectedReading[]; ignored: string | null } {
  const registry = new BoundedSeriesRegistry();
  const sink = new CollectingSink(registry);
  const decoder = new Decoder([topicRuleSchema.parse({ preset, ...(match === undefined ? {} : { match }) })], registry);
  const plan = decoder.plan(topic);
  if (plan === null) throw new Error('no rule');
  const bytes = Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload));
  decoder.decode(plan, bytes, sink, { arrivalUs: ARRIVAL_US, onlyDevice: null });
  expect(sink.exceptions).toEqual([]);
  return { readings: sink.readings, ignored: plan.ignored };
}

/** metric → value, or its text where it has no value. */
function values(readings: readonly CollectedReading[]): Record<string, unknown> {
  return Object.fromEntries(readings.map((reading) => [reading.metric, reading.value ?? reading.text]));
}

describe('Zigbee2MQTT', () => {
  const sensor = {
    battery: 91,
    contact: true,
    temperature: 21.34,
    state: 'ON',
    action: 'single',
    last_seen: '2023-11-14T22:13:10+00:00',
    update: { state: 'idle', installed_version: 16777241 },
    update_available: false,
    color: { x: 0.4, y: 0.5 },
  };

  test('the friendly name is the device, last_seen the time, words of a state are numbers that keep their word', () => {
    const { readings } = decode('zigbee2mqtt', 'zigbee2mqtt/kitchen/window', sensor);
    expect(values(readings)).toEqual({
      battery: 91,
      contact: 1,
      temperature: 21.34,
      state: 1,
      action: 'single',
      'color.x': 0.4,
      'color.y': 0.5,
    });
    expect(readings.find((reading) => reading.metric === 'state')).toMatchObject({ device: 'kitchen/window', value: 1, text: 'ON' });
    expect(new Set(readings.map((reading) => reading.us))).toEqual(new Set([1_699_999_990_000_000]));
  });

  test('last_seen as a number of ms, or absent', () => {
    expect(decode('zigbee2mqtt', 'zigbee2mqtt/a', { a: 1, last_seen: 1699999990000 }).readings[0].us).toBe(1_699_999_990_000_000);
    expect(decode('zigbee2mqtt', 'zigbee2mqtt/a', { a: 1 }).readings[0].us).toBeNull();
  });

  test('availability is a reading, as word and as object; commands and the bridge are not', () => {
    expect(decode('zigbee2mqtt', 'zigbee2mqtt/a/b/availability', 'online').readings).toMatchObject([
      { device: 'a/b', metric: 'availability', value: 1, text: 'online' },
    ]);
    expect(decode('zigbee2mqtt', 'zigbee2mqtt/a/availability', { state: 'offline' }).readings).toMatchObject([{ value: 0 }]);
    for (const topic of ['zigbee2mqtt/bridge/logging', 'zigbee2mqtt/a/set', 'zigbee2mqtt/a/set/state', 'zigbee2mqtt/a/get'])
      expect(decode('zigbee2mqtt', topic, '{"state":"ON"}'), topic).toMatchObject({ readings: [], ignored: expect.any(String) });
  });

  test('another base topic is a matter of match', () => {
    expect(decode('zigbee2mqtt', 'home/zigbee/attic', { t: 1 }, 'home/zigbee/#').readings).toMatchObject([
      { device: 'attic', metric: 't' },
    ]);
  });
});

describe('ChirpStack 4', () => {
  const uplink = {
    deduplicationId: '3ac7e3c4-4401-4b8d-9386-a5c902f9202d',
    time: '2023-11-14T22:13:10.123456789+00:00',
    deviceInfo: { tenantName: 'T', applicationName: 'A', deviceName: 'meter 1', devEui: '0101010101010101', tags: { key: 'value' } },
    devAddr: '00189440',
    adr: true,
    dr: 1,
    fCnt: 7,
    fPort: 2,
    confirmed: false,
    data: 'AQAA/w==',
    object: { temperature: 21.5, door: { open: false } },
    rxInfo: [
      { gatewayId: '0016c001f153a14c', rssi: -57, snr: 5, context: 'x' },
      { gatewayId: '0016c001f153a14d', rssi: -80, snr: 10 },
    ],
    txInfo: { frequency: 868100000, modulation: { lora: { bandwidth: 125000 } } },
  };
  const topic = 'application/b1f8-1/device/0101010101010101/event/up';

  test('the decoded object and the radio become metrics of the device EUI, at the time of the uplink', () => {
    const { readings } = decode('chirpstack', topic, uplink);
    expect(values(readings)).toEqual({
      temperature: 21.5,
      'door.open': 0,
      'lora.rssi': -57,
      'lora.snr': 10,
      'lora.gateways': 2,
      'lora.dr': 1,
      'lora.f_cnt': 7,
      'lora.f_port': 2,
      'lora.frequency': 868100000,
    });
    expect(readings[0]).toMatchObject({ device: '0101010101010101', us: 1_699_999_990_123_456 });
  });

  test('without a codec the bytes are kept', () => {
    const { object: _object, ...raw } = uplink;
    expect(values(decode('chirpstack', topic, raw).readings)).toMatchObject({ data: 'AQAA/w==' });
  });

  test('status events tell battery and margin; joins and commands carry no reading', () => {
    const status = { time: uplink.time, deviceInfo: uplink.deviceInfo, margin: 10, externalPowerSource: false, batteryLevel: 98.5 };
    expect(values(decode('chirpstack', topic.replace(/up$/, 'status'), status).readings)).toEqual({
      'status.margin': 10,
      'status.externalPowerSource': 0,
      'status.batteryLevel': 98.5,
    });
    for (const other of ['event/join', 'event/ack', 'command/down'])
      expect(decode('chirpstack', topic.replace('event/up', other), uplink)).toMatchObject({ readings: [], ignored: expect.any(String) });
  });
});

describe('Tasmota', () => {
  const sensor = {
    Time: '2023-11-14T22:13:10',
    DS18B20: { Id: '0316A279', Temperature: 21.3 },
    ENERGY: { TotalStartTime: '2022-01-01T00:00:00', Total: 3.1, Power: [0, 12] },
    TempUnit: 'C',
  };

  test('nested sensors become dotted metrics; a local time without zone is no time, an epoch and a zone are', () => {
    const { readings } = decode('tasmota', 'tele/plug-1/SENSOR', sensor);
    expect(values(readings)).toEqual({ 'DS18B20.Temperature': 21.3, 'ENERGY.Total': 3.1, 'ENERGY.Power.0': 0, 'ENERGY.Power.1': 12 });
    expect(readings[0]).toMatchObject({ device: 'plug-1', us: null });
    expect(decode('tasmota', 'tele/plug-1/SENSOR', { ...sensor, Epoch: 1699999990 }).readings[0].us).toBe(1_699_999_990_000_000);
    expect(decode('tasmota', 'tele/plug-1/SENSOR', { ...sensor, Time: '2023-11-14T23:13:10+01:00' }).readings[0].us).toBe(
      1_699_999_990_000_000,
    );
  });

  test('STATE and LWT tell of the device itself; INFO carries no reading', () => {
    expect(values(decode('tasmota', 'tele/plug-1/STATE', { UptimeSec: 90, POWER: 'ON', Wifi: { RSSI: 74, SSId: 'x' } }).readings)).toEqual({
      UptimeSec: 90,
      POWER: 1,
      'Wifi.RSSI': 74,
    });
    expect(decode('tasmota', 'tele/plug-1/LWT', 'Online').readings).toMatchObject([{ metric: 'availability', value: 1, text: 'Online' }]);
    expect(decode('tasmota', 'tele/plug-1/INFO1', sensor)).toMatchObject({ readings: [], ignored: expect.any(String) });
  });
});

test('topics of known systems suggest their preset, others none', () => {
  expect(suggestPreset('zigbee2mqtt/lamp')).toBe('zigbee2mqtt');
  expect(suggestPreset('application/1/device/0102030405060708/event/up')).toBe('chirpstack');
  expect(suggestPreset('tele/plug/SENSOR')).toBe('tasmota');
  expect(suggestPreset('devices/d1/telemetry')).toBeNull();
});

test('a rule needs a match or a preset', () => {
  expect(topicRuleSchema.safeParse({}).success).toBe(false);
  expect(topicRuleSchema.parse({ preset: 'tasmota' }).match).toBe('tele/#');
});
