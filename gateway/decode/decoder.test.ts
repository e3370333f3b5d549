import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { SluiceError } from '../../shared/errors.ts';
import { BoundedSeriesRegistry } from '../journal/registry.ts';
import { Decoder, lineDocument } from './decoder.ts';
import { CollectingSink, type CollectedReading } from './test-sink.ts';
import { DEFAULT_TOPIC_RULES, topicRuleSchema, type PayloadFormat } from './topic-rules.ts';

const ARRIVAL_US = 1_700_000_000_000_000;
const packr = new Packr({ useRecords: false });

interface Decoded {
  readings: CollectedReading[];
  exceptions: CollectingSink['exceptions'];
}

function decode(
  topic: string,
  payload: string | Buffer,
  options: { format?: PayloadFormat; timeUnit?: 's' | 'ms'; seriesMax?: number; onlyDevice?: string } = {},
): Decoded {
  const registry = new BoundedSeriesRegistry(options.seriesMax);
  const sink = new CollectingSink(registry);
  const rules = DEFAULT_TOPIC_RULES.map((rule) => ({
    ...rule,
    format: options.format ?? rule.format,
    timeUnit: options.timeUnit ?? rule.timeUnit,
  }));
  const decoder = new Decoder(
    [...rules, topicRuleSchema.parse({ match: 'influx/#' }), topicRuleSchema.parse({ match: 'any/#' })],
    registry,
  );
  const plan = decoder.plan(topic);
  if (plan === null) throw new Error('no rule');
  decoder.decode(plan, Buffer.from(payload), sink, { arrivalUs: ARRIVAL_US, onlyDevice: options.onlyDevice ?? null });
  return { readings: sink.readings, exceptions: sink.exceptions };
}

function reading(metric: string, value: number | null, us: number | null = null, more: Partial<CollectedReading> = {}): CollectedReading {
  return { device: 'd1', metric, tags: '', us, value, text: null, ...more };
}

/** The code of what is thrown, '' for nothing. */
function faultOf(attempt: () => unknown): string {
  try {
    attempt();
    return '';
  } catch (error) {
    return error instanceof SluiceError ? error.code : String(error);
  }
}

const TELEMETRY = 'devices/d1/telemetry';
const TS_US = 1_699_999_999_123_000;

describe('JSON shapes', () => {
  test.each<[string, string, CollectedReading[]]>([
    ['a flat object', '{"temperature":21.5,"ts":1699999999123}', [reading('temperature', 21.5, TS_US)]],
    ['a flat object without time', '{"temperature":21.5}', [reading('temperature', 21.5)]],
    ['a time of null', '{"temperature":21.5,"ts":null}', [reading('temperature', 21.5)]],
    ['the key timestamp', '{"timestamp":1699999999.123,"a":1}', [reading('a', 1, TS_US)]],
    ['RFC 3339', '{"time":"2023-11-14T22:13:19.123Z","a":1}', [reading('a', 1, TS_US)]],
    ['RFC 3339 with an offset', '{"time":"2023-11-14T23:13:19.123456+01:00","a":1}', [reading('a', 1, TS_US + 456)]],
    ['ts and values', '{"ts":1699999999123,"values":{"a":1,"b":true}}', [reading('a', 1, TS_US), reading('b', 1, TS_US)]],
    ['ts, values and tags', '{"values":{"a":1},"tags":{"z":"1","b":"2"}}', [reading('a', 1, null, { tags: '{"b":"2","z":"1"}' })]],
    [
      'an array of flat objects',
      '[{"a":1,"ts":1699999999123},{"a":2,"ts":1699999999124}]',
      [reading('a', 1, TS_US), reading('a', 2, TS_US + 1000)],
    ],
    [
      'an array of ts and values',
      '[{"ts":1699999999123,"values":{"a":1}},{"ts":1699999999124,"values":{"a":2}}]',
      [reading('a', 1, TS_US), reading('a', 2, TS_US + 1000)],
    ],
    [
      'booleans, texts and nulls',
      '{"on":true,"off":false,"state":"idle","gone":null}',
      [reading('on', 1), reading('off', 0), reading('state', null, null, { text: 'idle' })],
    ],
    ['nested objects and arrays', '{"acc":{"x":1,"y":[2,3]}}', [reading('acc.x', 1), reading('acc.y.0', 2), reading('acc.y.1', 3)]],
    ['integers up to 2^53', '{"n":9007199254740991}', [reading('n', 9007199254740991)]],
    [
      'integers above 2^53 with their digits',
      '{"n":9007199254740993,"s":"18446744073709551615"}',
      [reading('n', 9007199254740992, null, { text: '9007199254740993' }), reading('s', null, null, { text: '18446744073709551615' })],
    ],
    ['times in ns', '{"ts":1699999999123456789,"a":1}', [reading('a', 1, TS_US + 456)]],
    [
      'names that prototypes have',
      '{"__proto__":1,"constructor":2,"toString":3}',
      [reading('__proto__', 1), reading('constructor', 2), reading('toString', 3)],
    ],
    ['nothing', '{}', []],
  ])('%s', (_, payload, expected) => {
    expect(decode(TELEMETRY, payload)).toEqual({ readings: expected, exceptions: [] });
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test('a topic that names the metric takes bare values and objects', () => {
    expect(decode('devices/d1/temperature', '21.5').readings).toEqual([reading('temperature', 21.5)]);
    expect(decode('devices/d1/temperature', ' -3e2\n').readings).toEqual([reading('temperature', -300)]);
    expect(decode('devices/d1/on', 'true').readings).toEqual([reading('on', 1)]);
    expect(decode('devices/d1/state', 'door open').readings).toEqual([reading('state', null, null, { text: 'door open' })]);
    expect(decode('devices/d1/state', '"open"').readings).toEqual([reading('state', null, null, { text: 'open' })]);
    expect(decode('devices/d1/serial', '12345678901234567890').readings).toEqual([
      reading('serial', 12345678901234567000, null, { text: '12345678901234567890' }),
    ]);
    expect(decode('devices/d1/temperature', '{"value":21.5,"ts":1699999999123}').readings).toEqual([reading('temperature', 21.5, TS_US)]);
    expect(decode('devices/d1/acc', '{"x":1,"y":2}').readings).toEqual([reading('acc.x', 1), reading('acc.y', 2)]);
    expect(decode('devices/d1/acc', '[1,2]').readings).toEqual([reading('acc.0', 1), reading('acc.1', 2)]);
    expect(decode('devices/d1/retained', '').readings).toEqual([]);
  });

  test('a value that is not finite is an exception of that metric alone', () => {
    const { readings, exceptions } = decode(TELEMETRY, packr.pack({ a: NaN, b: 1, c: Infinity }));
    expect(readings).toEqual([reading('b', 1)]);
    expect(
      exceptions.map((record) => [record.kind, record.device, record.metric, record.readingCount, record.reason.split(':')[0]]),
    ).toEqual([
      ['dead_letter', 'd1', 'a', 1, 'decode_value'],
      ['dead_letter', 'd1', 'c', 1, 'decode_value'],
    ]);
    expect(decode('devices/d1/t', 'nan').exceptions).toHaveLength(1);
    expect(decode(TELEMETRY, '{"a":1e999,"b":1}')).toMatchObject({ readings: [reading('b', 1)], exceptions: [{ metric: 'a' }] });
  });

  test('an unusable name is an exception of that metric alone', () => {
    const { readings, exceptions } = decode(
      TELEMETRY,
      JSON.stringify({ '': 1, 'a\nb': 2, ['x'.repeat(257)]: 3, ok: 4, ['ü'.repeat(128)]: 5 }),
    );
    expect(readings.map((row) => row.value)).toEqual([4, 5]);
    expect(exceptions).toHaveLength(3);
  });

  test("a device's name with a zero character is refused, also where it reads like a known device with its tags", () => {
    const known = { device: 'd', tags: { site: 'b' }, values: { a: 1 } };
    const { readings, exceptions } = decode('any/x', JSON.stringify([known, { device: 'd\u0000{"site":"b"}', a: 2 }]));
    expect(readings.map(({ device, value }) => [device, value])).toEqual([['d', 1]]);
    expect(exceptions.map(({ reason }) => reason.slice(0, 11))).toEqual(['decode_name']);
  });

  test('a faulty entry of an array harms no other', () => {
    const { readings, exceptions } = decode(TELEMETRY, '[{"a":1},5,{"a":2,"ts":"yesterday"},{"a":3}]');
    expect(readings.map((row) => row.value)).toEqual([1, 3]);
    expect(exceptions.map((record) => record.reason.split(':')[0])).toEqual(['decode_shape', 'decode_time']);
    expect(Buffer.from(exceptions[0]?.payload as Uint8Array).toString()).toContain('yesterday');
  });

  test('many faulty entries are summed up', () => {
    const { exceptions } = decode(TELEMETRY, JSON.stringify(Array.from({ length: 1000 }, () => 5)));
    expect(exceptions).toHaveLength(17);
    expect(exceptions[16]?.readingCount).toBe(984);
  });

  test('a series beyond the limit is an exception, the known ones go on', () => {
    const { readings, exceptions } = decode(TELEMETRY, '{"a":1,"b":2,"c":3}', { seriesMax: 2 });
    expect(readings.map((row) => row.metric)).toEqual(['a', 'b']);
    expect(exceptions[0]?.reason).toMatch(/^series_limit: /);
  });

  test('the unit of time is recognised once and then kept', () => {
    const registry = new BoundedSeriesRegistry();
    const sink = new CollectingSink(registry);
    const decoder = new Decoder(DEFAULT_TOPIC_RULES, registry);
    const plan = decoder.plan(TELEMETRY);
    if (plan === null) throw new Error('no rule');
    for (const ts of [12, 1699999999, 1700000000, 5])
      decoder.decode(plan, Buffer.from(`{"a":1,"ts":${ts}}`), sink, { arrivalUs: ARRIVAL_US, onlyDevice: null });
    expect(sink.readings.map((row) => row.us)).toEqual([12e6, 1699999999e6, 1700000000e6, 5e6]);
    const inMs = Buffer.from('{"a":1,"ts":1699999999123}');
    expect(() => decoder.decode(plan, inMs, sink, { arrivalUs: ARRIVAL_US, onlyDevice: null })).toThrowError(
      expect.objectContaining({ code: 'ERR_DECODE_TIME' }),
    );
  });
});

describe('faults of a whole message', () => {
  test.each<[string, string | Buffer, string, string?]>([
    ['cut JSON', '{"a":1', 'ERR_DECODE_SYNTAX'],
    ['JSON that is not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 'ERR_DECODE_SYNTAX'],
    ['a bare number where no metric is named', '21.5', 'ERR_DECODE_SHAPE'],
    ['a time that is none', '{"a":1,"ts":"yesterday"}', 'ERR_DECODE_TIME'],
    ['a time without zone', '{"a":1,"ts":"2023-11-14T22:13:19"}', 'ERR_DECODE_TIME'],
    ['a date that does not exist', '{"a":1,"ts":"2023-02-30T22:13:19Z"}', 'ERR_DECODE_TIME'],
    ['a time beyond the calendar', '{"a":1,"ts":1e300}', 'ERR_DECODE_TIME'],
    ['a time that is an object', '{"a":1,"ts":{}}', 'ERR_DECODE_TIME'],
    ['deep objects', `${'{"a":'.repeat(9)}1${'}'.repeat(9)}`, 'ERR_DECODE_TOO_DEEP'],
    ['very deep arrays', `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, 'ERR_DECODE_TOO_DEEP'],
    ['very deep arrays with a long integer', `{"n":9007199254740993,"a":${'['.repeat(400_000)}${']'.repeat(400_000)}}`, 'ERR_DECODE_'],
    [
      'too many fields',
      JSON.stringify(Object.fromEntries(Array.from({ length: 5000 }, (_, index) => [`m${index}`, 1]))),
      'ERR_DECODE_TOO_MANY',
    ],
    ['too many readings', JSON.stringify(Array.from({ length: 70_000 }, () => ({ a: 1 }))), 'ERR_DECODE_TOO_MANY'],
    ['MessagePack that is cut', packr.pack({ temperature: 21.5 }).subarray(0, 8), 'ERR_DECODE_SYNTAX'],
    ['MessagePack text that is not UTF-8', Buffer.from([0x81, 0xa1, 0x61, 0xa2, 0xc3, 0x28]), 'ERR_DECODE_SYNTAX'],
    ['MessagePack that announces 4 G items', Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]), 'ERR_DECODE_SYNTAX'],
    ['deep MessagePack', Buffer.concat([Buffer.alloc(1000, 0x91), Buffer.from([1])]), 'ERR_DECODE_TOO_DEEP'],
    ['no device', '{"a":1}', 'ERR_DECODE_DEVICE', 'any/x'],
    ['an unusable device', '{"a":1}', 'ERR_DECODE_NAME', `devices/${'x'.repeat(300)}/telemetry`],
    ['the topic of another device', '{"a":1}', 'ERR_BROKER_FORBIDDEN', 'devices/d2/telemetry'],
    ['the payload of another device', '{"a":1,"device":"d2"}', 'ERR_BROKER_FORBIDDEN', 'any/x'],
  ])('%s', (_, payload, code, topic) => {
    expect(() => decode(topic ?? TELEMETRY, payload, { onlyDevice: 'd1' })).toThrowError(
      expect.objectContaining({ code: expect.stringContaining(code) }),
    );
  });

  test('are answered in linear time', () => {
    const startedMs = performance.now();
    for (const hostile of [
      `${'1'.repeat(1_000_000)}x`,
      ' '.repeat(1_000_000),
      `a${' '.repeat(999_999)}`,
      '-'.repeat(1_000_000),
      `[{"n":"${'-'.repeat(500_000)}","v":1}]`,
      `{"a":${'9'.repeat(900_000)}}`,
    ]) {
      for (const topic of [TELEMETRY, 'devices/d1/m', 'influx/x']) {
        expect(faultOf(() => decode(topic, hostile))).toMatch(/^$|^ERR_DECODE_/);
      }
    }
    expect(performance.now() - startedMs).toBeLessThan(3000);
  });
});

describe('SenML', () => {
  const OWN: [string, string, CollectedReading[]][] = [
    [
      'base name and time',
      '[{"bn":"d1:","bt":1699999999.123,"n":"temp","u":"Cel","v":21.5},{"n":"hum","t":1,"v":50}]',
      [reading('temp', 21.5, TS_US), reading('hum', 50, TS_US + 1_000_000)],
    ],
    ['a base name that ends with the device', '[{"bn":"urn:dev:mac:d1:","n":"temp","v":1}]', [reading('temp', 1)]],
    ['another base name', '[{"bn":"urn:dev:ow:10e2:","n":"temp","v":1}]', [reading('temp', 1, null, { tags: '{"bn":"urn:dev:ow:10e2"}' })]],
    ['no base name', '[{"n":"temp","v":1,"t":0}]', [reading('temp', 1)]],
    ['base value and sum', '[{"bv":20,"bs":100,"n":"e","v":1.5,"s":5}]', [reading('e', 21.5), reading('e.sum', 105)]],
    [
      'kinds of values',
      '[{"n":"a","vb":true},{"n":"b","vs":"x"},{"n":"c","vd":"aGk"}]',
      [reading('a', 1), reading('b', null, null, { text: 'x' }), reading('c', null, null, { text: 'aGk' })],
    ],
    [
      'times relative to now',
      '[{"bt":-10,"n":"a","v":1},{"n":"a","t":5,"v":2}]',
      [reading('a', 1, ARRIVAL_US - 10e6), reading('a', 2, ARRIVAL_US - 5e6)],
    ],
  ];
  test.each(OWN)('%s', (_, payload, expected) => {
    expect(decode(TELEMETRY, payload)).toEqual({ readings: expected, exceptions: [] });
  });

  test('names the device where the topic does not', () => {
    expect(decode('any/senml', '[{"bn":"urn:dev:ow:10e2:","n":"temp","v":1}]').readings).toEqual([
      reading('temp', 1, null, { device: 'urn:dev:ow:10e2' }),
    ]);
    expect(decode('any/senml', '[{"n":"boiler/temp","v":1}]').readings).toEqual([reading('temp', 1, null, { device: 'boiler' })]);
  });

  test('a newer version refuses the pack, a mandatory extension its record', () => {
    expect(() => decode(TELEMETRY, '[{"bver":11,"n":"a","v":1}]')).toThrowError(expect.objectContaining({ code: 'ERR_DECODE_SYNTAX' }));
    const { readings, exceptions } = decode(TELEMETRY, '[{"n":"a","v":1,"must_":1},{"n":"b","v":2}]');
    expect(readings).toEqual([reading('b', 2)]);
    expect(exceptions).toHaveLength(1);
  });
});

describe('line protocol', () => {
  const CASES: [string, string, CollectedReading[]][] = [
    [
      'measurement, tags, fields, time',
      'cpu,host=d1,cpu=cpu0 usage_idle=98.5,n=3i 1699999999123456789',
      [
        reading('cpu.usage_idle', 98.5, TS_US + 456, { tags: '{"cpu":"cpu0"}' }),
        reading('cpu.n', 3, TS_US + 456, { tags: '{"cpu":"cpu0"}' }),
      ],
    ],
    ['device before host', 'm,device=d1,host=h v=1', [reading('m.v', 1, null, { tags: '{"host":"h"}' })]],
    [
      'booleans and strings',
      'm,device=d1 a=t,b=FALSE,c="x, y=\\"z\\" \\\\"',
      [reading('m.a', 1), reading('m.b', 0), reading('m.c', null, null, { text: 'x, y="z" \\' })],
    ],
    [
      'unsigned and 64-bit integers',
      'm,device=d1 a=18446744073709551615u,b=-9223372036854775808i',
      [
        reading('m.a', 18446744073709552000, null, { text: '18446744073709551615' }),
        reading('m.b', -9223372036854776000, null, { text: '-9223372036854775808' }),
      ],
    ],
    ['escapes', 'my\\ m\\,x,device=d1,t\\=a\\ g=v\\,1 f\\ \\=k=1', [reading('my m,x.f =k', 1, null, { tags: '{"t=a g":"v,1"}' })]],
    [
      'a string over lines',
      'm,device=d1 a="1\n2" 1699999999123000000\nm,device=d1 b=2',
      [reading('m.a', null, TS_US, { text: '1\n2' }), reading('m.b', 2)],
    ],
    ['comments, blank lines and CR LF', '# hi\r\n\r\nm,device=d1 a=1\r\n  m,device=d1 a=2  \r\n', [reading('m.a', 1), reading('m.a', 2)]],
  ];
  test.each(CASES)('%s', (_, payload, expected) => {
    expect(decode('influx/x', payload)).toEqual({ readings: expected, exceptions: [] });
  });

  test('a topic that names the device wins; a tag that says otherwise stays', () => {
    expect(decode(TELEMETRY, 'm,host=other v=1').readings).toEqual([reading('m.v', 1, null, { tags: '{"host":"other"}' })]);
    expect(decode(TELEMETRY, 'm,host=d1 v=1').readings).toEqual([reading('m.v', 1)]);
  });

  test('a request has as many fields as it likes: its slices stay below what a message may have', () => {
    const registry = new BoundedSeriesRegistry();
    const sink = new CollectingSink(registry);
    const decoder = new Decoder([], registry);
    const fields = Array.from({ length: 350 }, (_, index) => `f${index}=${index}`).join(',');
    const lines = lineDocument(Buffer.from(`m,host=a ${fields}\n`.repeat(200)), null, 'ns');
    while (lines.more) decoder.decodeLineSlice(lines, 1_000, sink, { arrivalUs: 0, onlyDevice: null });
    expect(sink.readings).toHaveLength(70_000);
    expect(sink.exceptions).toEqual([]);
  });

  test('a line with too many tags harms no other', () => {
    const tags = Array.from({ length: 50 }, (_, index) => `t${index}=${'x'.repeat(200)}`).join(',');
    const { readings, exceptions } = decode('influx/x', `m,host=a v=1\nm,host=a,${tags} v=2\nm,host=a v=3`);
    expect(readings.map(({ value }) => value)).toEqual([1, 3]);
    expect(exceptions.map(({ reason }) => reason.slice(0, 30))).toEqual(['decode_too_many: line 2: the t']);
  });

  test('a faulty line harms no other', () => {
    const lines = [
      'm,device=d1 a=1',
      'm',
      'm,device=d1 a',
      'm,device=d1 a="open',
      'm a=1',
      'm,device=d1 a=1 12x',
      'm,device=d1 a=NaN',
      'm,device=d1 a=1i2',
      'm,device=d1,x a=1',
      ',device=d1 a=1',
      'm,device=d1 a=99999999999999999999i',
      'm,device=d1 a=2',
    ];
    const { readings, exceptions } = decode('influx/x', lines.join('\n'));
    expect(readings.map((row) => row.value)).toEqual([1, 2]);
    expect(exceptions.map((record) => Number(/line (\d+)/.exec(record.reason)?.[1]))).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });

  test.each([
    ['s', '1700000000'],
    ['ms', '1700000000000'],
    ['us', '1700000000000000'],
    ['ns', '1700000000000000999'],
    ['m', '28333333'],
    ['h', '472222'],
  ] as const)('precision %s', (precision, digits) => {
    const registry = new BoundedSeriesRegistry();
    const sink = new CollectingSink(registry);
    const lines = lineDocument(Buffer.from(`m,host=d1 a=1 ${digits}`), null, precision);
    new Decoder([], registry).decodeLineSlice(lines, 10, sink, { arrivalUs: 0, onlyDevice: null });
    const us = sink.readings[0]?.us as number;
    expect(Math.abs(us - 1_700_000_000_000_000)).toBeLessThan(3_600_000_000);
    expect(us % 3_600_000_000 === 0 || us === 1_700_000_000_000_000 || precision === 'm').toBe(true);
  });
});

test('a request in line protocol is read slice by slice, its lines numbered through', () => {
  const registry = new BoundedSeriesRegistry();
  const sink = new CollectingSink(registry);
  const decoder = new Decoder([], registry);
  const lines = lineDocument(Buffer.from('m,host=a v=1\nm,host=a v="x\ny"\nbad\nm,host=a v=2\nbad\n'), null, 'ns');
  const problems: string[] = [];
  while (lines.more)
    problems.push(
      ...decoder.decodeLineSlice(lines, 2, sink, { arrivalUs: 0, onlyDevice: null }).problems.map((problem) => problem.message.slice(0, 6)),
    );
  expect(sink.readings.map((row) => row.value ?? row.text)).toEqual([1, 'x\ny', 2]);
  expect(problems).toEqual(['line 4', 'line 6']);
});

describe('MessagePack', () => {
  test('has the shapes of JSON', () => {
    expect(decode(TELEMETRY, packr.pack({ ts: 1699999999123, values: { a: 1.5, s: 'x', b: true, n: null } })).readings).toEqual([
      reading('a', 1.5, TS_US),
      reading('s', null, TS_US, { text: 'x' }),
      reading('b', 1, TS_US),
    ]);
    expect(decode(TELEMETRY, packr.pack([{ a: 1, ts: new Date(1699999999123) }, { a: 9007199254740993n }])).readings).toEqual([
      reading('a', 1, TS_US),
      reading('a', 9007199254740992, null, { text: '9007199254740993' }),
    ]);
    expect(decode(TELEMETRY, packr.pack([{ n: 'a', v: 1 }])).readings).toEqual([reading('a', 1)]);
  });

  test('reads what msgpackr writes', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc
            .string({ minLength: 1, maxLength: 20 })
            .filter((key) => !['ts', 'time', 'timestamp', 'values', '__proto__'].includes(key) && !/\p{Control}|\p{Surrogate}/u.test(key)),
          fc.double({ noNaN: true, noDefaultInfinity: true }),
        ),
        (fields) => {
          const expected = decode(TELEMETRY, JSON.stringify(fields)).readings;
          expect(decode(TELEMETRY, packr.pack(fields), { format: 'msgpack' }).readings.map((row) => row.value)).toEqual(
            expected.map((row) => (Object.is(row.value, -0) ? 0 : row.value)).map((value) => value),
          );
        },
      ),
      { numRuns: 100 },
    );
  });
});

test('random bytes give readings, exceptions or a typed error, for every format', () => {
  const formats: PayloadFormat[] = ['auto', 'json', 'senml', 'influx', 'msgpack', 'number', 'text'];
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.json().map((text) => Buffer.from(text)),
    fc.json().map((text) => Buffer.from(text.slice(0, -1))),
    fc.string().map((text) => Buffer.from(`m,host=d ${text}`)),
    fc.object().map((value) => packr.pack(value)),
  );
  fc.assert(
    fc.property(bytes, fc.constantFrom(...formats), fc.constantFrom(TELEMETRY, 'devices/d1/m', 'any/x'), (payload, format, topic) => {
      let readings: CollectedReading[] = [];
      expect(faultOf(() => ({ readings } = decode(topic, Buffer.from(payload), { format })))).toMatch(/^$|^ERR_DECODE_/);
      for (const row of readings) {
        expect(row.value === null || Number.isFinite(row.value)).toBe(true);
        expect(row.value !== null || row.text !== null).toBe(true);
        expect(row.us === null || Number.isSafeInteger(row.us)).toBe(true);
      }
    }),
    { numRuns: 3000 },
  );
});
