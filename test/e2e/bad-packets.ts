/** Bytes that are no MQTT, or not the MQTT that a gateway takes: after each the connection ends and nothing else does. */
import { mqttConnect, mqttPacket, mqttPublish, mqttString } from './raw-clients.ts';

export interface BadPacket {
  readonly name: string;
  readonly bytes: Buffer;
  /** The sender closes after the bytes. */
  readonly half?: true;
}

const SUBSCRIBE = 0x82;
const text = (value: string): Buffer => Buffer.from(value, 'latin1');
const inSession = (name: string, packet: Uint8Array): BadPacket => ({ name, bytes: Buffer.concat([mqttConnect('hostile'), packet]) });
const connectOf = (...parts: Uint8Array[]): Buffer => mqttPacket(0x10, Buffer.concat(parts));

export const PACKETS_BEFORE_CONNECT: readonly BadPacket[] = [
  { name: 'an HTTP request', bytes: text('GET / HTTP/1.1\r\nHost: x\r\n\r\n') },
  { name: 'a TLS hello', bytes: Buffer.from('16030100f4010000f00303', 'hex') },
  { name: 'PUBLISH before CONNECT', bytes: mqttPublish('devices/x/telemetry', '{"a":1}') },
  { name: 'a CONNECT cut short', bytes: mqttConnect('cut').subarray(0, 9), half: true },
  { name: 'a CONNECT cut short, and silence', bytes: mqttConnect('cut').subarray(0, 9) },
  { name: 'nothing at all', bytes: Buffer.alloc(0) },
  { name: 'a remaining length of five bytes', bytes: Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 0x01]) },
  { name: 'a CONNECT of 268,435,455 bytes', bytes: Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f]) },
  { name: 'a CONNECT of another protocol', bytes: connectOf(mqttString('HTTP'), Buffer.from([4, 2, 0, 60]), mqttString('x')) },
  { name: 'a CONNECT of level 9', bytes: connectOf(mqttString('MQTT'), Buffer.from([9, 2, 0, 60]), mqttString('x')) },
  {
    name: 'a CONNECT with a string longer than itself',
    bytes: connectOf(mqttString('MQTT'), Buffer.from([4, 2, 0, 60, 0xff, 0xff]), text('x')),
  },
  { name: 'a client id of 300 bytes', bytes: mqttConnect('c'.repeat(300)) },
  {
    name: 'a will without its topic',
    bytes: connectOf(mqttString('MQTT'), Buffer.from([4, 0b110, 0, 60]), mqttString('will')),
  },
  { name: 'packet type 0', bytes: Buffer.from([0x00, 0x00]) },
];

export const PACKETS_IN_SESSION: readonly BadPacket[] = [
  inSession('a second CONNECT', mqttConnect('hostile')),
  inSession('QoS 3', mqttPacket(0x36, Buffer.concat([mqttString('devices/x/telemetry'), Buffer.from([0, 1]), text('{"a":1}')]))),
  inSession('a topic that is a wildcard', mqttPublish('#', '{"a":1}')),
  inSession('a topic with + inside', mqttPublish('devices/+/telemetry', '{"a":1}')),
  inSession('a topic with # inside', mqttPublish('devices/x/#', '{"a":1}')),
  inSession('an empty topic', mqttPublish('', '{"a":1}')),
  inSession('a topic of 200 levels', mqttPublish(Array.from({ length: 200 }, () => 'a').join('/'), '{"a":1}')),
  inSession('a topic of the broker', mqttPublish('$SYS/broker/clients', '{"a":1}')),
  inSession('a packet of 2 MiB', mqttPublish('devices/x/telemetry', Buffer.alloc(2 * 1024 * 1024, 0x20))),
  inSession('a packet that announces 268,435,455 bytes', Buffer.from([0x32, 0xff, 0xff, 0xff, 0x7f, 0x00])),
  { ...inSession('a PUBLISH cut short', mqttPublish('devices/x/telemetry', '{"a":1}').subarray(0, 20)), half: true },
  inSession('a PUBLISH whose topic is longer than it', mqttPacket(0x32, Buffer.from([0xff, 0xff, 0x61]))),
  { ...inSession('a PUBLISH at QoS 1 without message id', mqttPacket(0x32, mqttString('devices/x/telemetry'))), half: true },
  inSession('SUBSCRIBE with wrong flags', mqttPacket(0x80, Buffer.concat([Buffer.from([0, 1]), mqttString('a'), Buffer.from([0])]))),
  inSession('SUBSCRIBE without topics', mqttPacket(SUBSCRIBE, Buffer.from([0, 1]))),
  inSession('SUBSCRIBE at QoS 3', mqttPacket(SUBSCRIBE, Buffer.concat([Buffer.from([0, 1]), mqttString('a'), Buffer.from([3])]))),
  inSession('packet type 15', mqttPacket(0xf0, Buffer.from([0]))),
];
