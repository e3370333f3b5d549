/**
 * Writes the batch vectors into this folder: `node test/vectors/batch/make-vectors.ts` with a Node that strips types (22.18 or newer).
 *
 * Vectors are kept, not remade: a change of these files is a change of what version 1 of the wire format means, except
 * where an encoder merely chooses better models. The folder's bad-*.bin name the error that they must give.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';
import type { BatchContent } from '../../../shared/batch/batch.ts';
import { encodeBatch } from '../../../shared/batch/encode.ts';
import type { ErrorCode } from '../../../shared/errors.ts';
import type { ExceptionRecord } from '../../../shared/exception.ts';
import { mulberry32, REFERENCE_START_US, referenceFleet } from '../../bench/reference-fleet.ts';
import { sortIntoRuns } from '../../../shared/batch/runs.ts';
import { fromVectorJson, toVectorJson, type VectorJson } from './vector-json.ts';

const folder = import.meta.dirname;
const T = REFERENCE_START_US;
const times = (count: number, stepUs: number, fromUs = T): number[] => Array.from({ length: count }, (_, i) => fromUs + i * stepUs);
const series = (device: string, metric: string, eventTimeUs: number[], value: (number | string)[], tags = '') => ({ device, metric, tags, eventTimeUs, value });
const frame = { sealedUs: T + 2_000_000, arrivalFromUs: T, arrivalToUs: T + 1_999_000, texts: null, exceptions: [] };

const exceptions: VectorJson['exceptions'] = [
  { kind: 'gap', device: null, metric: null, fromUs: T, toUs: T + 60_000_000, readingCount: null, reason: 'buffer_full: drop-oldest', payload: null },
  { kind: 'dead_letter', device: 'sensor-0001', metric: null, fromUs: T, toUs: T + 1, readingCount: 1, reason: 'json_syntax', payload: '7b22743a' },
  { kind: 'quarantined', device: 'sensor-0002', metric: 'größe', fromUs: 0, toUs: 1, readingCount: 4_294_967_296, reason: 'clock_before_2015', payload: '' },
];

function withTexts(): VectorJson {
  const nan = '0x7ff8000000000000';
  return {
    ...frame,
    texts: ['open', 'closed', '', 'größer als 2^53: 9007199254740993', 'unused'],
    series: [
      { ...series('door-1', 'opened_count', times(3, 1_000_000), [1, 2, 2]), text: [0, 0, 0] },
      { ...series('door-1', 'serial', times(2, 500_000), [9007199254740992, 9007199254740992]), text: [4, 4] },
      { ...series('door-1', 'state', times(4, 1_000_000), [nan, nan, nan, nan]), text: [1, 2, 1, 3] },
    ],
  };
}

function noise(): VectorJson {
  const random = mulberry32(3);
  const wave = (count: number): number[] => Array.from({ length: count }, (_, i) => Math.sin(i / 10) + random() / 1000);
  const steps = (count: number): number[] => Array.from({ length: count }, () => Math.floor(random() * 1000) / 10);
  const irregular = (count: number): number[] => {
    let at = T;
    return Array.from({ length: count }, () => (at += Math.floor(random() ** 4 * 1_000_000)));
  };
  return {
    ...frame,
    series: [
      series('motor-1', 'acceleration', times(100, 1250), wave(100)),
      series(
        'motor-1',
        'drift',
        Array.from({ length: 40 }, (_, i) => T + i * 40_000 + i * i * 777),
        times(40, 0.5, 0),
      ),
      series('motor-1', 'noise', times(80, 25_000), steps(80)),
      series('motor-1', 'own_rhythm', times(30, 61_803), times(30, 3)),
      series('motor-1', 'shocks', irregular(40), Array<number>(40).fill(1)),
    ],
  };
}

const vectors: Record<string, VectorJson> = {
  'exceptions-only': { ...frame, series: [], exceptions },
  'single-reading': { ...frame, series: [series('a', 'b', [T], [21.5])] },
  texts: withTexts(),
  booleans: { ...frame, series: [series('door-1', 'open', times(19, 100_000), [0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1])] },
  bigints: {
    ...frame,
    series: [series('meter-1', 'energy', times(6, 1_000_000), [2 ** 51 - 1, 2 ** 51, 2 ** 51 + 1, 2 ** 53 - 1, 2 ** 53, -(2 ** 53)]), series('meter-1', 'pulses', times(4, 1_000_000), [-(2 ** 51), 2 ** 51, 0, 1])],
  },
  'special-doubles': {
    ...frame,
    series: [
      series('x', 'y', times(9, 1000), ['0x8000000000000000', '0x7ff8000000000000', '0xfff8000000000001', '0x7ff0000000000000', '0xfff0000000000000', 5e-324, Number.MAX_VALUE, 0.1 + 0.2, 0]),
      series('x', 'z', [T, T], ['0x8000000000000000', '0x8000000000000000']),
    ],
  },
  'shared-times': {
    ...frame,
    series: [
      series('a', 'humidity', times(3, 1_000_000, T + 7000), [40.25, 40.5, 40.25]),
      series('a', 'noise', times(6, 500_000, T + 7000), [1, 2, 3, 4, 5, 6]),
      series('a', 'temperature', times(3, 1_000_000, T + 7000), [-0.5, -0.25, 0]),
      series('b', 'humidity', times(3, 1_000_000, T + 7000), [40, 41, 42]),
    ],
  },
  tags: {
    ...frame,
    series: [series('host', 'cpu.usage', [T], [0.5]), series('host', 'cpu.usage', [T, T], [0.125, 0.75], '{"10":"z","9":"ü","cpu":"\\"1\\""}'), series('host', 'cpu.usage', [T], [0.25], '{"cpu":"0"}')],
  },
  'irregular-times': noise(),
  'time-limits': { ...frame, series: [series('old', 'x', [-(2 ** 52) + 1, 0, 2 ** 52 - 1], [1, 2, 3]), series('old', 'y', [T, T, T], [1, 2, 3])] },
};

/** The same batch with other bytes at `offset`, and a right checksum unless `damage`. */
function patched(batch: Uint8Array, offset: number, bytes: readonly number[], damage = false): Uint8Array {
  const out = Uint8Array.from(batch);
  out.set(bytes, offset);
  if (!damage) new DataView(out.buffer).setUint32(out.length - 4, zlib.crc32(out.subarray(0, out.length - 4)));
  return out;
}

function write(name: string, bytes: Uint8Array | string): void {
  writeFileSync(path.join(folder, name), bytes);
}

for (const [name, json] of Object.entries(vectors)) {
  write(`${name}.json`, `${JSON.stringify(json)}\n`);
  write(`${name}.bin`, encodeBatch(fromVectorJson(json), 'none'));
}

const fleet = referenceFleet({ devices: 250, seconds: 2, seed: 20260101 });
const content: BatchContent = {
  ...frame,
  exceptions: exceptions.slice(0, 1).map((exception): ExceptionRecord => ({ ...exception, payload: null })),
  runs: sortIntoRuns(fleet.columns, fleet.table),
};
write('reference-fleet.json', `${JSON.stringify(toVectorJson(content))}\n`);
write('reference-fleet.bin', encodeBatch(content, 'none'));
write('reference-fleet.br.bin', encodeBatch(content, 'br'));
write('reference-fleet.zstd.bin', encodeBatch(content, 'zstd'));

const good = encodeBatch(fromVectorJson(vectors['single-reading']), 'none');
const bad: Partial<Record<ErrorCode, Uint8Array>> = {
  ERR_BATCH_MAGIC: patched(good, 0, [0x73]),
  ERR_BATCH_VERSION: patched(good, 3, [2]),
  ERR_BATCH_CHECKSUM: patched(good, good.length - 6, [0x55], true),
  ERR_BATCH_TRUNCATED: good.subarray(0, good.length - 5),
  ERR_BATCH_MALFORMED: patched(good, 6, [0x07]), // one byte less of raw body than there is
};
for (const [code, bytes] of Object.entries(bad)) write(`bad-${code}.bin`, bytes);
