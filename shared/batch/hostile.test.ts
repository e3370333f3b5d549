import zlib from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { referenceFleet } from '../../test/bench/reference-fleet.ts';
import { isSluiceError, type ErrorCode } from '../errors.ts';
import type { Series } from '../reading.ts';
import { WIRE_VERSION, type BatchContent } from './batch.ts';
import { ByteWriter } from './bytes.ts';
import { availableCompressions, zstdCompressSync } from './compression.ts';
import { decodeBatch, inspectBatch } from './decode.ts';
import { encodeBatch } from './encode.ts';
import { writeEnvelope, type BatchSummary } from './envelope.ts';
import { writeIntegers } from './integer-stream.ts';
import { EXCEPTIONS_MAX, RAW_BYTES_MAX, READINGS_MAX, SERIES_MAX } from './limits.ts';
import { sortIntoRuns } from './runs.ts';
import { writeSeriesTable } from './series-table.ts';
import { writeNames } from './string-table.ts';

const hasZstd = availableCompressions().includes('zstd');

function sample(): BatchContent {
  const { columns, table } = referenceFleet({ devices: 12, seconds: 3, seed: 1 });
  const text = new Uint32Array(columns.count);
  text[5] = 1;
  text[9] = 2;
  const value = columns.value.slice();
  value[5] = NaN;
  value[20] = Math.PI;
  const tagged = table.map((series, i): Series => (i % 7 === 0 ? { ...series, tags: '{"site":"größe"}' } : series));
  return {
    sealedUs: 1_767_225_603_000_000,
    arrivalFromUs: 1_767_225_600_000_000,
    arrivalToUs: 1_767_225_602_900_000,
    runs: sortIntoRuns({ ...columns, value, text, texts: ['on', 'off'] }, tagged),
    exceptions: [
      {
        kind: 'gap',
        device: 'a',
        metric: null,
        fromUs: 1,
        toUs: 2,
        readingCount: null,
        reason: 'buffer_full',
        payload: new Uint8Array([1, 2]),
      },
    ],
  };
}

/** A right checksum over whatever stands before it. */
function resealed(bytes: Uint8Array): Uint8Array {
  const out = Uint8Array.from(bytes);
  if (out.length > 8) new DataView(out.buffer).setUint32(out.length - 4, zlib.crc32(out.subarray(0, out.length - 4)));
  return out;
}

function codeOf(work: () => unknown): ErrorCode | 'none' {
  try {
    work();
    return 'none';
  } catch (error) {
    if (isSluiceError(error) && error.code.startsWith('ERR_BATCH_')) return error.code;
    throw error;
  }
}

/** How decoding ends. Bytes that decode must be content that an encoder accepts: nothing invalid goes on into the hub. */
function outcome(bytes: Uint8Array): ErrorCode | 'none' | 'invalid content' {
  const contents: BatchContent[] = [];
  const code = codeOf(() => contents.push(decodeBatch(bytes)));
  const again = contents.map((content) => codeOf(() => decodeBatch(encodeBatch(content, 'none'))));
  return again.some((other) => other !== 'none') ? 'invalid content' : code;
}

const TYPED_OR_VALID = /^(none|ERR_BATCH_[A-Z_]+)$/;

const emptySummary: BatchSummary = {
  wireVersion: WIRE_VERSION,
  compression: 'none',
  rawBytes: 0,
  readingCount: 0,
  seriesCount: 0,
  exceptionCount: 0,
  sealedUs: 0,
  arrivalFromUs: 0,
  arrivalToUs: 0,
};

function sealed(summary: Partial<BatchSummary>, body: Uint8Array): Uint8Array {
  return writeEnvelope({ ...emptySummary, rawBytes: body.length, ...summary }, body);
}

describe('hostile batches', () => {
  test('random bytes give a typed error', () => {
    const bytes = fc.uint8Array({ maxLength: 300 });
    fc.assert(
      fc.property(bytes, (random) => {
        expect(outcome(random)).toMatch(TYPED_OR_VALID);
      }),
    );
    const header = [0x53, 0x4c, 0x42, 1, 0x9a];
    fc.assert(
      fc.property(bytes, (random) => {
        expect(outcome(resealed(Uint8Array.from([...header, ...random])))).toMatch(TYPED_OR_VALID);
      }),
    );
  });

  test('a random body under a right envelope gives a typed error', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.nat(50),
        fc.nat(10),
        fc.nat(3),
        (body, readingCount, seriesCount, exceptionCount) => {
          const batch = sealed({ readingCount, seriesCount: Math.min(seriesCount, readingCount), exceptionCount }, body);
          expect(outcome(batch)).toMatch(TYPED_OR_VALID);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('changed bytes under a right checksum give a typed error or valid content', () => {
    for (const compression of availableCompressions()) {
      const batch = encodeBatch(sample(), compression);
      const change = fc.tuple(fc.nat(batch.length - 5), fc.nat(255));
      fc.assert(
        fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
          const damaged = Uint8Array.from(batch);
          for (const [at, byte] of changes) damaged[at] = byte;
          expect(outcome(resealed(damaged))).toMatch(TYPED_OR_VALID);
        }),
        { numRuns: compression === 'none' ? 1000 : 200 },
      );
    }
  });

  test('every single bit that flips is noticed', () => {
    const batch = encodeBatch(sample(), 'br');
    for (let bit = 0; bit < batch.length * 8; bit++) {
      const damaged = Uint8Array.from(batch);
      damaged[bit >>> 3] ^= 1 << (bit & 7);
      expect(codeOf(() => inspectBatch(damaged))).toMatch(/^ERR_BATCH_(CHECKSUM|MAGIC|TRUNCATED)$/);
    }
  });

  test('every prefix is truncated', () => {
    const batch = encodeBatch(sample(), 'br');
    for (let length = 0; length < batch.length; length++) {
      expect(codeOf(() => decodeBatch(batch.subarray(0, length)))).toBe('ERR_BATCH_TRUNCATED');
    }
  });

  test('another wire version is named only when the checksum is right', () => {
    const batch = encodeBatch(sample(), 'br');
    batch[3] = 2;
    expect(codeOf(() => inspectBatch(batch))).toBe('ERR_BATCH_CHECKSUM');
    expect(codeOf(() => inspectBatch(resealed(batch)))).toBe('ERR_BATCH_VERSION');
    expect(codeOf(() => inspectBatch(resealed(Uint8Array.from([0x53, 0x4c, 0x42, 9, 0, 0, 0, 0, 0]))))).toBe('ERR_BATCH_VERSION');
  });

  test('bytes behind the checksum or the exceptions are refused', () => {
    const batch = encodeBatch(sample(), 'none');
    expect(codeOf(() => decodeBatch(resealed(Uint8Array.from([...batch, 0]))))).toBe('ERR_BATCH_MALFORMED');
    const body = Uint8Array.from([0, 0, 0, 0, 0, 0, 0]);
    expect(codeOf(() => decodeBatch(sealed({}, body.subarray(0, 7))))).toBe('none');
    expect(codeOf(() => decodeBatch(sealed({}, Uint8Array.from([...body, 0]))))).toBe('ERR_BATCH_MALFORMED');
  });

  test('declared counts above the limits are refused by the envelope alone', () => {
    const body = new Uint8Array(8);
    expect(codeOf(() => inspectBatch(sealed({ readingCount: READINGS_MAX + 1 }, body)))).toBe('ERR_BATCH_TOO_LARGE');
    expect(codeOf(() => inspectBatch(sealed({ readingCount: READINGS_MAX, seriesCount: SERIES_MAX + 1 }, body)))).toBe(
      'ERR_BATCH_TOO_LARGE',
    );
    expect(codeOf(() => inspectBatch(sealed({ exceptionCount: EXCEPTIONS_MAX + 1 }, body)))).toBe('ERR_BATCH_TOO_LARGE');
    expect(codeOf(() => inspectBatch(sealed({ rawBytes: RAW_BYTES_MAX + 1 }, body)))).toBe('ERR_BATCH_TOO_LARGE');
    expect(codeOf(() => inspectBatch(sealed({ readingCount: 1, seriesCount: 2 }, body)))).toBe('ERR_BATCH_MALFORMED');
  });

  test('the largest declared counts over an empty body fail before they are allocated', () => {
    const before = process.memoryUsage().arrayBuffers;
    const largest = { readingCount: READINGS_MAX, seriesCount: SERIES_MAX, exceptionCount: EXCEPTIONS_MAX };
    for (let i = 0; i < 100; i++)
      expect(codeOf(() => decodeBatch(sealed({ ...largest, rawBytes: RAW_BYTES_MAX }, new Uint8Array(8))))).toBe('ERR_BATCH_MALFORMED');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024);
  });

  test('a brotli bomb stops at the declared length', () => {
    const bomb = zlib.brotliCompressSync(new Uint8Array(32 * 1024 * 1024), { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } });
    expect(codeOf(() => decodeBatch(sealed({ compression: 'br', rawBytes: 1000 }, bomb)))).toBe('ERR_BATCH_MALFORMED');
    expect(codeOf(() => decodeBatch(sealed({ compression: 'br', rawBytes: 7 }, bomb)))).toBe('ERR_BATCH_MALFORMED');
    expect(codeOf(() => decodeBatch(sealed({ compression: 'br', rawBytes: RAW_BYTES_MAX }, bomb)))).toBe('ERR_BATCH_MALFORMED');
  });

  test.runIf(hasZstd)('a zstd bomb, a second frame, a dictionary and a huge window are refused', () => {
    const bomb = zstdCompressSync(new Uint8Array(32 * 1024 * 1024), 1);
    const before = process.memoryUsage().rss;
    for (const rawBytes of [0, 7, 1000, RAW_BYTES_MAX])
      expect(codeOf(() => decodeBatch(sealed({ compression: 'zstd', rawBytes }, bomb)))).toBe('ERR_BATCH_MALFORMED');
    expect(process.memoryUsage().rss - before).toBeLessThan(128 * 1024 * 1024);
    const frame = zstdCompressSync(new Uint8Array(7), 1);
    const decode = (body: Uint8Array): ErrorCode | 'none' => codeOf(() => decodeBatch(sealed({ compression: 'zstd', rawBytes: 7 }, body)));
    expect(decode(frame)).toBe('none');
    expect(decode(Buffer.concat([frame, frame]))).toBe('ERR_BATCH_MALFORMED');
    expect(decode(frame.subarray(0, frame.length - 1))).toBe('ERR_BATCH_MALFORMED');
    for (const [at, byte] of [
      [0, 0],
      [4, frame[4] | 1],
      [5, 0x70], // 16 MiB
    ] as const) {
      const changed = Uint8Array.from(frame);
      changed[at] = byte;
      expect(decode(changed)).toBe('ERR_BATCH_MALFORMED');
    }
  });

  test('event times out of range are refused', () => {
    const body = (unitUs: number, first: number, differences: number[]): Uint8Array => {
      const writer = new ByteWriter();
      const count = 1 + differences.length;
      writeSeriesTable(writer, [{ device: 'a', metric: 'b', tags: '' }]);
      writeIntegers(writer, [0]);
      writer.integer(1);
      writeIntegers(writer, [count]);
      writer.integer(1);
      for (const part of [0, unitUs, 0, 0]) writer.integer(part);
      writeIntegers(writer, [0]);
      writeIntegers(writer, [first]);
      writeIntegers(writer, differences);
      writer.integer(1);
      for (const part of [4, 0, 0, 0, 0]) writer.byte(part); // values: absent, and no texts
      return sealed({ readingCount: count, seriesCount: 1 }, writer.view().slice());
    };
    const limit = 2 ** 52 - 1;
    expect(decodeBatch(body(1, -limit, [limit, 0, limit])).runs.eventTimeUs).toEqual(Float64Array.of(-limit, 0, 0, limit));
    expect(decodeBatch(body(1000, Math.floor(limit / 1000), [])).runs.count).toBe(1);
    for (const bad of [
      body(1, limit + 1, []),
      body(1, -limit - 1, []),
      body(1, 0, [limit + 1]),
      body(1, 0, [-1]),
      body(1000, Math.ceil(limit / 1000), []),
      body(0, 0, []),
    ]) {
      expect(codeOf(() => decodeBatch(bad))).toBe('ERR_BATCH_MALFORMED');
    }
  });

  test('front coding cannot unfold a small table into a large one', () => {
    const writer = new ByteWriter();
    writeNames(writer, 'device', [], 256);
    writeNames(writer, 'metric', [], 256);
    // 100,000 tags that share 8,192 bytes with the one before: 800 MB from nothing.
    const count = 100_000;
    writer.integer(count);
    writeIntegers(
      writer,
      Float64Array.from({ length: count }, (_, i) => (i === 0 ? 0 : 8192)),
    );
    writeIntegers(
      writer,
      Float64Array.from({ length: count }, (_, i) => (i === 0 ? 8192 : 0)),
    );
    writer.append(new Uint8Array(8192).fill(0x61));
    const body = writer.view().slice();
    expect(codeOf(() => decodeBatch(sealed({ readingCount: count, seriesCount: count }, body)))).toBe('ERR_BATCH_TOO_LARGE');
  });
});

describe('content that no batch can hold', () => {
  const content = sample();
  const runs = content.runs;
  const first = runs.seriesTable[0];
  const replaced = (series: Series): BatchContent => ({
    ...content,
    runs: { ...runs, seriesTable: [series, ...runs.seriesTable.slice(1)] },
  });

  test.each([
    ['an empty device', replaced({ ...first, device: '' })],
    ['a control character', replaced({ ...first, metric: 'a\u0001' })],
    ['a lone surrogate', replaced({ ...first, device: '\ud800' })],
    ['a name of 257 bytes', replaced({ ...first, device: 'a'.repeat(257) })],
    ['tags that are not canonical', replaced({ ...first, tags: '{"b":"1","a":"2"}' })],
    ['series out of order', { ...content, runs: { ...runs, seriesTable: runs.seriesTable.toReversed() } }],
    ['times that go back', { ...content, runs: { ...runs, eventTimeUs: runs.eventTimeUs.toReversed() } }],
    ['a time with a fraction', { ...content, runs: { ...runs, eventTimeUs: runs.eventTimeUs.map((us) => us + 0.25) } }],
    ['an empty run', { ...content, runs: { ...runs, runOffsets: runs.runOffsets.map((offset, s) => (s === 1 ? 0 : offset)) } }],
    ['a text that is not in the table', { ...content, runs: { ...runs, texts: [] } }],
    ['a payload of 4,097 bytes', { ...content, exceptions: [{ ...content.exceptions[0], payload: new Uint8Array(4097) }] }],
    ['a negative arrival', { ...content, arrivalFromUs: -1 }],
  ] satisfies [string, BatchContent][])('%s is refused', (_, bad) => {
    expect(codeOf(() => encodeBatch(bad, 'none'))).toBe('ERR_BATCH_CONTENT');
  });
});
