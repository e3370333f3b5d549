import fc from 'fast-check';
import protobuf from 'protobufjs/minimal.js';
import { describe, expect, test } from 'vitest';
import { isSluiceError } from '../../shared/errors.ts';
import { BoundedSeriesRegistry } from '../journal/registry.ts';
import { Decoder, remoteWriteRequest } from './decoder.ts';
import { CollectingSink } from './test-sink.ts';

interface Sample {
  readonly value: number | 'stale';
  readonly ms: number;
}

interface TestSeries {
  readonly labels: Readonly<Record<string, string>>;
  readonly samples: readonly Sample[];
  readonly histograms?: number;
}

const STALE = Buffer.from([2, 0, 0, 0, 0, 0, 0xf0, 0x7f]);

function encode(series: readonly TestSeries[]): Buffer {
  const writer = protobuf.Writer.create();
  for (const { labels, samples, histograms = 0 } of series) {
    writer.uint32(10).fork();
    for (const [name, value] of Object.entries(labels)) writer.uint32(10).fork().uint32(10).string(name).uint32(18).string(value).ldelim();
    for (const { value, ms } of samples) {
      writer.uint32(18).fork().uint32(9);
      writer.double(value === 'stale' ? STALE.readDoubleLE() : value);
      writer.uint32(16).int64(ms).ldelim();
    }
    for (let index = 0; index < histograms; index++) writer.uint32(34).fork().uint32(8).uint32(5).ldelim();
    writer.ldelim();
  }
  // Metadata, which every Prometheus sends now and then.
  writer.uint32(26).fork().uint32(8).uint32(1).uint32(18).string('up').ldelim();
  const bytes = Buffer.from(writer.finish());
  // A JavaScript engine may change the bits of a NaN on its way: put them back.
  for (let at = bytes.indexOf(Buffer.from([0, 0, 0xf8, 0x7f])); at >= 0; at = bytes.indexOf(Buffer.from([0, 0, 0xf8, 0x7f]), at + 1))
    if (bytes.readUInt8(at - 4) === 2) bytes.writeUInt8(0xf0, at + 2);
  return bytes;
}

function decode(body: Buffer, samplesMax = 1_000): { sink: CollectingSink; problems: string[]; staleMarkers: number; slices: number } {
  const registry = new BoundedSeriesRegistry();
  const sink = new CollectingSink(registry);
  const decoder = new Decoder([], registry);
  const request = remoteWriteRequest(body, ['instance', 'host', 'job']);
  const problems: string[] = [];
  let slices = 0;
  while (request.more) {
    const result = decoder.decodeRemoteWriteSlice(request, samplesMax, sink, { arrivalUs: 1_700_000_000_000_000, onlyDevice: null });
    problems.push(...result.problems.map(({ code, message }) => `${code} ${message}`));
    slices++;
  }
  return { sink, problems, staleMarkers: request.cursor.staleMarkers, slices };
}

const manyLabels = (count: number): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`l${index}`, 'x'.repeat(200)]));

const up = (value: number | 'stale', ms = 1_700_000_000_123): TestSeries => ({
  labels: { __name__: 'up', instance: 'pi:9100', job: 'node', empty: '' },
  samples: [{ value, ms }],
});

describe('a remote write request', () => {
  test('labels become metric, device and tags; times are ms', () => {
    const { sink } = decode(encode([up(1), { labels: { __name__: 'x', host: 'h', site: 'ü' }, samples: [{ value: -0.5, ms: 1 }] }]));
    expect(sink.readings).toEqual([
      { device: 'pi:9100', metric: 'up', tags: '{"job":"node"}', us: 1_700_000_000_123_000, value: 1, text: null },
      { device: 'h', metric: 'x', tags: '{"site":"ü"}', us: 1_000, value: -0.5, text: null },
    ]);
  });

  test('a stale marker is no reading and no problem; NaN and infinities are readings with their word', () => {
    const { sink, problems, staleMarkers } = decode(encode([up('stale'), up(NaN), up(Infinity), up(-Infinity)]));
    expect(staleMarkers).toBe(1);
    expect(sink.readings.map(({ value, text }) => [value, text])).toEqual([
      [null, 'NaN'],
      [null, '+Inf'],
      [null, '-Inf'],
    ]);
    expect(problems).toEqual([]);
  });

  test('a series that cannot be used harms no other', () => {
    const bad: TestSeries[] = [
      { labels: { instance: 'a' }, samples: [{ value: 1, ms: 1 }] },
      { labels: { __name__: 'x', site: 'b' }, samples: [{ value: 1, ms: 1 }] },
      { labels: { __name__: 'h', instance: 'a' }, samples: [], histograms: 2 },
      { labels: { __name__: 'x', instance: 'a' }, samples: [{ value: 1, ms: 9e15 }] },
      { labels: { __name__: 'x', instance: 'a', ...manyLabels(50) }, samples: [{ value: 1, ms: 1 }] },
      { labels: { __name__: 'x', instance: 'a', ...manyLabels(300) }, samples: [{ value: 1, ms: 1 }] },
      { labels: { __name__: 'x', instance: 'a' }, samples: Array.from({ length: 62_000 }, (_, ms) => ({ value: 1, ms })) },
    ];
    const { sink, problems } = decode(encode([up(1), ...bad, up(2)]));
    expect(sink.readings.map(({ value }) => value)).toEqual([1, 2]);
    expect(problems.map((problem) => problem.split(' ')[0])).toEqual([
      'ERR_DECODE_NAME',
      'ERR_DECODE_DEVICE',
      'ERR_DECODE_SHAPE',
      'ERR_DECODE_TIME',
      'ERR_DECODE_TOO_MANY',
      'ERR_DECODE_TOO_MANY',
      'ERR_DECODE_TOO_MANY',
    ]);
    expect(sink.exceptions).toHaveLength(7);
  });

  test('is read in slices that give the same as the whole', () => {
    const series = Array.from({ length: 100 }, (_, index) => up(index, 1_700_000_000_000 + index));
    const whole = decode(encode(series));
    const cut = decode(encode(series), 7);
    expect(cut.slices).toBeGreaterThan(10);
    expect(cut.sink.readings).toEqual(whole.sink.readings);
  });

  test('cut, flipped or random bytes give readings or a typed error, never anything else', () => {
    const good = encode([up(1), up(2), { labels: { __name__: 'x', instance: 'a' }, samples: [{ value: 1, ms: 1 }] }]);
    const attempt = (bytes: Buffer): void => {
      try {
        decode(bytes);
      } catch (error) {
        if (!isSluiceError(error)) throw error;
      }
    };
    for (let length = 0; length < good.length; length++) attempt(good.subarray(0, length));
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), (at, byte) => {
        const bytes = Buffer.from(good);
        bytes[at] = byte;
        attempt(bytes);
      }),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => attempt(Buffer.from(bytes))));
  });
});
