/**
 * Bytes per reading of sealed batches, and what encoding and decoding cost: `npx tsx test/bench/batch-bytes.ts`.
 *
 * References, over the same readings in arrival order: one JSON object per reading, the same gzipped, and gzipped
 * InfluxDB line protocol. The whole batch counts: envelope, series dictionary and columns.
 */
import zlib from 'node:zlib';
import type { BatchContent, Compression } from '../../shared/batch/batch.ts';
import { availableCompressions } from '../../shared/batch/compression.ts';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { encodeBatch } from '../../shared/batch/encode.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import { REFERENCE_START_US, referenceFleet, type ReferenceFleet } from './reference-fleet.ts';

const SEED = 20260101;
const ROUND_READINGS = 2_000_000;

interface Case {
  readonly devices: number;
  readonly seconds: number;
  readonly bytesPerReadingMax: number;
  readonly phases?: boolean;
}

const CASES: readonly Case[] = [
  { devices: 250, seconds: 2, bytesPerReadingMax: 1.4 },
  { devices: 250, seconds: 5, bytesPerReadingMax: 1.0 },
  { devices: 5000, seconds: 2, bytesPerReadingMax: 1.4 },
  { devices: 5000, seconds: 5, bytesPerReadingMax: 1.0 },
  { devices: 5000, seconds: 5, bytesPerReadingMax: 1.0, phases: true },
];

function asJson({ table, columns }: ReferenceFleet): string {
  const lines: string[] = [];
  for (let i = 0; i < columns.count; i++) {
    const { device, metric } = table[columns.series[i]];
    lines.push(JSON.stringify({ device, metric, ts: columns.eventTimeUs[i] / 1000, value: columns.value[i] }));
  }
  return lines.join('\n');
}

/** One line per device message (4 fields), or per reading (1 field). */
function asLineProtocol({ table, columns }: ReferenceFleet, fieldsPerLine: number): string {
  const lines: string[] = [];
  for (let i = 0; i < columns.count; i += fieldsPerLine) {
    const fields: string[] = [];
    for (let m = i; m < i + fieldsPerLine; m++) fields.push(`${table[columns.series[m]].metric}=${columns.value[m]}`);
    const { device } = table[columns.series[i]];
    lines.push(`environment,device=${device} ${fields.join(',')} ${columns.eventTimeUs[i]}000`);
  }
  return lines.join('\n');
}

/** ns per reading, the fastest of several rounds: the others tell of the machine's neighbours. */
function time(readings: number, work: () => void): number {
  const repeats = Math.max(1, Math.round(ROUND_READINGS / 5 / readings));
  let best = Infinity;
  for (let round = 0; round < 5; round++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < repeats; i++) work();
    best = Math.min(best, Number(process.hrtime.bigint() - start) / (repeats * readings));
  }
  return best;
}

function report(entry: Case): boolean {
  const fleet = referenceFleet({ ...entry, seed: SEED });
  const { count } = fleet.columns;
  const json = Buffer.from(asJson(fleet));
  const jsonBytes = json.length / count;
  console.log(
    `\n${entry.devices} devices × 4 metrics × ${entry.seconds} s${entry.phases === true ? ', a phase per device (not the reference)' : ''}: ${count} readings`,
  );
  const line = (name: string, bytes: number, more = ''): void =>
    console.log(
      `  ${name.padEnd(22)} ${(bytes / count).toFixed(3).padStart(8)} B/reading  JSON ÷ ${((jsonBytes * count) / bytes).toFixed(1).padStart(5)}${more}`,
    );
  line('JSON', json.length);
  line('JSON, gzip 6', zlib.gzipSync(json).length);
  line('line protocol, gzip 6', zlib.gzipSync(asLineProtocol(fleet, 1)).length, '  one line per reading');
  line('line protocol, gzip 6', zlib.gzipSync(asLineProtocol(fleet, 4)).length, '  one line per message');
  const runs = sortIntoRuns(fleet.columns, fleet.table);
  const content: BatchContent = {
    sealedUs: REFERENCE_START_US + entry.seconds * 1_000_000,
    arrivalFromUs: REFERENCE_START_US,
    arrivalToUs: REFERENCE_START_US + entry.seconds * 1_000_000,
    runs,
    exceptions: [],
  };
  let good = true;
  const sortNs = time(count, () => void sortIntoRuns(fleet.columns, fleet.table));
  for (const compression of ['none', ...availableCompressions().filter((other) => other !== 'none')] satisfies Compression[]) {
    const batch = encodeBatch(content, compression);
    const encodeNs = time(count, () => void encodeBatch(content, compression));
    const decodeNs = time(count, () => void decodeBatch(batch));
    const met = batch.length / count <= entry.bytesPerReadingMax;
    if (compression !== 'none') good &&= met;
    const verdict = compression === 'none' ? '' : met ? `, ≤ ${entry.bytesPerReadingMax}` : `, NOT ≤ ${entry.bytesPerReadingMax}`;
    line(
      `Sluice, ${compression}`,
      batch.length,
      `  sort ${sortNs.toFixed(0)} + encode ${encodeNs.toFixed(0)} ns, decode ${decodeNs.toFixed(0)} ns per reading${verdict}`,
    );
  }
  return good;
}

const results = CASES.map(report);
if (results.includes(false)) process.exitCode = 1;
