/**
 * Payloads of which nothing, or not everything, can be a reading. Each is acknowledged, since it is stored: as an
 * exception that says why.
 */
import { Packr } from 'msgpackr';

export interface BadPayload {
  readonly name: string;
  readonly topic: string;
  readonly payload: Uint8Array | string;
  /** First word of the exception's reason. */
  readonly reason: string;
  readonly kind?: 'quarantined';
  /** The exception cannot name the device. */
  readonly nameless?: true;
}

/** Rules beside the defaults, so that each format has a topic of its own. */
export const TOPIC_RULES = JSON.stringify([
  { match: 'devices/{device}/telemetry' },
  { match: 'devices/{device}/{metric}' },
  { match: 'senml/{device}', format: 'senml' },
  { match: 'influx/{device}', format: 'influx' },
  { match: 'msgpack/{device}', format: 'msgpack' },
  { match: 'number/{device}/{metric}', format: 'number' },
]);

const packr = new Packr({ useRecords: false });
const pack = (value: unknown): Buffer => packr.pack(value);
const hex = (digits: string): Buffer => Buffer.from(digits, 'hex');
const many = (count: number, entry: string): string => `[${Array.from({ length: count }, () => entry).join(',')}]`;

let devices = 0;
const at = (prefix: string, suffix: string) => (name: string, payload: Uint8Array | string, reason: string, kind?: 'quarantined') => ({
  name,
  topic: `${prefix}/bad-${++devices}${suffix}`,
  payload,
  reason,
  ...(kind === undefined ? {} : { kind }),
});
const auto = at('devices', '/telemetry');
const bare = at('devices', '/level');
const senml = at('senml', '');
const influx = at('influx', '');
const msgpack = at('msgpack', '');
const number = at('number', '/level');

export const BAD_PAYLOADS: readonly BadPayload[] = [
  auto('JSON cut short', '{"a":1,"b":', 'decode_syntax'),
  auto('JSON with NaN', '{"a":NaN}', 'decode_syntax'),
  auto('JSON with text behind it', '{"a":1} x', 'decode_syntax'),
  auto('JSON with broken UTF-8', Buffer.from('{"a\xff":"\xfe"}', 'latin1'), 'decode_syntax'),
  auto('a number beyond doubles', '{"a":1e999}', 'decode_value'),
  auto('50,000 nested arrays', `${'['.repeat(50_000)}1${']'.repeat(50_000)}`, 'decode_shape'),
  auto('50,000 nested objects', `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`, 'decode_too_deep'),
  auto('70,000 readings in one message', many(70_000, '{"a":1}'), 'decode_too_many'),
  auto('5,000 fields in one entry', `{${Array.from({ length: 5_000 }, (_, field) => `"f${field}":1`).join(',')}}`, 'decode_too_many'),
  auto('a time that is a word', '{"ts":"yesterday","a":1}', 'decode_time'),
  auto('a time that is an object', '{"ts":{"a":1},"a":1}', 'decode_time'),
  auto('a time of 1970', '{"ts":"1970-01-01T00:00:00Z","a":1}', 'event_time_before_2015', 'quarantined'),
  auto('a time of 2100', '{"ts":"2100-01-01T00:00:00Z","a":1}', 'event_time_ahead', 'quarantined'),
  auto('a time of 2199', '{"ts":"2199-01-01T00:00:00Z","a":1}', 'decode_time'),
  auto('a metric name of 300 bytes', `{"${'m'.repeat(300)}":1}`, 'decode_name'),
  auto('a metric name with NUL', '{"a\\u0000b":1}', 'decode_name'),
  auto('an empty metric name', '{"":1}', 'decode_name'),
  auto('a text of 100,000 bytes', `{"a":"${'x'.repeat(100_000)}"}`, 'decode_'),
  auto('bytes of no format', hex('c1c1c1c1ff00ff00'), 'decode_'),
  bare('a bare NaN', 'NaN', 'decode_value'),
  bare('a bare infinity', '-Infinity', 'decode_value'),
  bare('a bare number beyond doubles', '1e999', 'decode_value'),
  number('a word where a number should be', 'warm', 'decode_value'),
  msgpack('MessagePack with NaN', pack({ a: NaN }), 'decode_value'),
  msgpack('MessagePack with infinity', pack({ a: Infinity }), 'decode_value'),
  msgpack('MessagePack cut short', pack({ a: 1, b: 'text' }).subarray(0, 6), 'decode_syntax'),
  msgpack('the byte that MessagePack never uses', hex('c1'), 'decode_syntax'),
  msgpack('an array that announces 4,294,967,295 entries', hex('ddffffffff'), 'decode_'),
  msgpack('a map that announces 4,294,967,295 entries', hex('dfffffffff'), 'decode_'),
  msgpack('a text that announces 4 GiB', hex('81a161dbffffffff61'), 'decode_syntax'),
  msgpack('an extension of an unknown type', hex('81a161c70342000000'), 'decode_'),
  msgpack('10,000 nested arrays', Buffer.alloc(10_000, 0x91), 'decode_too_deep'),
  senml('SenML that is no pack', '{"n":"a","v":1}', 'decode_shape'),
  senml('SenML with a text as number', '[{"n":"a","v":"warm"}]', 'decode_'),
  senml('SenML of numbers', '[1,2,3]', 'decode_shape'),
  senml('SenML without a name', '[{"v":1}]', 'decode_'),
  senml('SenML of version 99', '[{"bver":99,"n":"a","v":1}]', 'decode_'),
  influx('a line without fields', 'cpu', 'decode_syntax'),
  influx('a line with an open quote', 'cpu text="open', 'decode_syntax'),
  influx('a field without value', 'cpu usage=', 'decode_syntax'),
  influx('a tag without value', 'cpu,host usage=1', 'decode_syntax'),
  influx('a line with NaN', 'cpu usage=NaN', 'decode_'),
  influx('a line with a time that is a word', 'cpu usage=1 now', 'decode_'),
  { name: 'a device with NUL', topic: 'devices/a\u0000b/telemetry', payload: '{"a":1}', reason: 'decode_name', nameless: true },
  {
    name: 'a device of 300 bytes',
    topic: `devices/${'d'.repeat(300)}/telemetry`,
    payload: '{"a":1}',
    reason: 'decode_name',
    nameless: true,
  },
];
