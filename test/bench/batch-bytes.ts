/**
 * Bytes per reading of sealed batches, and what encoding and decoding cost.
 *
 * References, over the same readings in arrival order: one JSON object per reading, the same gzipped, and gzipped
 * InfluxDB line protocol. The whole batch counts: envelope, series dictionary and columns.
 */
import zlib from 'node:zlib';
import type { BatchContent } from '../../shared/batch/batch.ts';
import { availableCompressions } from '../../shared/batch/compression.ts';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { encodeBatch } from '../../shared/batch/encode.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import { Samples, type BenchOptions, type Measured } from './figures.ts';
import { REFERENCE_START_US, referenceFleet, type ReferenceFleet } from './reference-fleet.ts';

const SEED = 20260101;
const JSON_GZIP = 'JSON per reading, gzip 6';

interface Case {
  readonly name: string;
  readonly devices: number;
  readonly seconds: number;
  readonly bytesPerReadingMax: number;
  readonly phases?: boolean;
}

const CASES: readonly Case[] = [
  { name: '250 devices × 2 s', devices: 250, seconds: 2, bytesPerReadingMax: 1.4 },
  { name: '250 devices × 5 s', devices: 250, seconds: 5, bytesPerReadingMax: 1.0 },
  { name: '5,000 devices × 2 s', devices: 5000, seconds: 2, bytesPerReadingMax: 1.4 },
  { name: '5,000 devices × 5 s', devices: 5000, seconds: 5, bytesPerReadingMax: 1.0 },
  { name: '5,000 devices × 5 s, each at a time of its own', devices: 5000, seconds: 5, bytesPerReadingMax: 1.0, phases: true },
];

function asJson({ table, columns }: ReferenceFleet): string {
  const lines: string[] = [];
  for (let i = 0; i < columns.count; i++) {
    const { device, metric } = table[columns.series[i]];
    lines.push(JSON.stringify({ device, metric, ts: columns.eventTimeUs[i] / 1000, value: columns.value[i] }));
  }
  return lines.join('\n');
}

/** One line per device message (4 fields). */
export function asLineProtocol({ table, columns }: ReferenceFleet, from = 0, to = columns.count): string {
  const lines: string[] = [];
  for (let i = from; i < to; i += 4) {
    const fields: string[] = [];
    for (let m = i; m < i + 4; m++) fields.push(`${table[columns.series[m]].metric}=${columns.value[m]}`);
    const { device } = table[columns.series[i]];
    lines.push(`environment,device=${device} ${fields.join(',')} ${columns.eventTimeUs[i]}000`);
  }
  return lines.join('\n');
}

function nsPerReading(readings: number, readingsPerRound: number, work: () => void): number {
  const repeats = Math.max(1, Math.round(readingsPerRound / readings));
  const startMs = performance.now();
  for (let i = 0; i < repeats; i++) work();
  return ((performance.now() - startMs) * 1e6) / (repeats * readings);
}

function contentOf(fleet: ReferenceFleet, seconds: number): BatchContent {
  const toUs = REFERENCE_START_US + seconds * 1_000_000;
  return {
    sealedUs: toUs,
    arrivalFromUs: REFERENCE_START_US,
    arrivalToUs: toUs,
    runs: sortIntoRuns(fleet.columns, fleet.table),
    exceptions: [],
  };
}

export async function benchBatchBytes({ rounds, isShort }: BenchOptions): Promise<Measured> {
  const samples = new Samples();
  const readingsPerRound = isShort ? 100_000 : 400_000;
  for (const entry of CASES) {
    const fleet = referenceFleet({ ...entry, seed: SEED });
    const { count } = fleet.columns;
    const json = Buffer.from(asJson(fleet));
    samples.add(entry.name, 'JSON per reading', 'size', 'B/reading', json.length / count);
    samples.add(entry.name, JSON_GZIP, 'size', 'B/reading', zlib.gzipSync(json).length / count);
    samples.add(entry.name, 'line protocol per message, gzip 6', 'size', 'B/reading', zlib.gzipSync(asLineProtocol(fleet)).length / count);
    const content = contentOf(fleet, entry.seconds);
    for (const compression of availableCompressions()) {
      const name = `Sluice batch, ${compression === 'br' ? 'brotli' : compression === 'none' ? 'not compressed' : compression}`;
      const batch = encodeBatch(content, compression);
      samples.add(entry.name, name, 'size', 'B/reading', batch.length / count);
      samples.compare(entry.name, name, 'size', JSON_GZIP);
      if (compression !== 'none') samples.want(entry.name, name, 'size', { of: 'value', atMost: entry.bytesPerReadingMax });
      nsPerReading(count, readingsPerRound, () => void decodeBatch(encodeBatch(content, compression))); // the compiler's turn
      for (let round = 0; round < rounds; round++) {
        samples.add(
          entry.name,
          name,
          'sort',
          'ns/reading',
          nsPerReading(count, readingsPerRound, () => void sortIntoRuns(fleet.columns, fleet.table)),
        );
        samples.add(
          entry.name,
          name,
          'encode',
          'ns/reading',
          nsPerReading(count, readingsPerRound, () => void encodeBatch(content, compression)),
        );
        samples.add(
          entry.name,
          name,
          'decode',
          'ns/reading',
          nsPerReading(count, readingsPerRound, () => void decodeBatch(batch)),
        );
      }
    }
  }
  return {
    figures: samples.figures(),
    method:
      'The reference fleet (four metrics per device at 1 Hz, 0 to 40 ms late, values that walk in steps of 0.01) is sealed into one batch of so many seconds; ' +
      'the whole batch counts, names included. Sizes are the same in every round.',
    notes: [],
    chart: { metric: 'size', title: 'Bytes per reading' },
  };
}
