/**
 * The content of a batch as JSON, for people and programs that check a decoder of their own against these vectors.
 *
 * One entry per series with its readings in columns. A value that JSON cannot say (-0, NaN, infinities) stands as its
 * 64 bits, '0x' and 16 hex digits; `text` has indexes, 0 for none and k for `texts[k - 1]`; payloads are hex.
 */
import type { BatchContent } from '../../../shared/batch/batch.ts';
import type { ExceptionRecord } from '../../../shared/exception.ts';

interface VectorSeries {
  readonly device: string;
  readonly metric: string;
  readonly tags: string;
  readonly eventTimeUs: readonly number[];
  readonly value: readonly (number | string)[];
  readonly text?: readonly number[];
}

export interface VectorJson {
  readonly sealedUs: number;
  readonly arrivalFromUs: number;
  readonly arrivalToUs: number;
  readonly series: readonly VectorSeries[];
  /** null: the batch has no text column. */
  readonly texts: readonly string[] | null;
  readonly exceptions: readonly (Omit<ExceptionRecord, 'payload'> & { readonly payload: string | null })[];
}

function valueToJson(value: number): number | string {
  if (Number.isFinite(value) && !Object.is(value, -0)) return value;
  return `0x${new BigUint64Array(new Float64Array([value]).buffer)[0].toString(16).padStart(16, '0')}`;
}

function valueToBits(value: number | string): bigint {
  return typeof value === 'string' ? BigInt(value) : (new BigUint64Array(new Float64Array([value]).buffer)[0]);
}

export function toVectorJson(content: BatchContent): VectorJson {
  const { runs } = content;
  const bits = new BigUint64Array(runs.value.buffer);
  return {
    sealedUs: content.sealedUs,
    arrivalFromUs: content.arrivalFromUs,
    arrivalToUs: content.arrivalToUs,
    series: runs.seriesTable.map((series, s) => {
      const from = runs.runOffsets[s];
      const to = runs.runOffsets[s + 1];
      const value = Array.from(runs.value.subarray(from, to), (v, i) =>
        Number.isNaN(v) ? `0x${(bits[from + i]).toString(16).padStart(16, '0')}` : valueToJson(v),
      );
      const columns = { eventTimeUs: [...runs.eventTimeUs.subarray(from, to)], value };
      return { ...series, ...columns, ...(runs.text === null ? {} : { text: [...runs.text.subarray(from, to)] }) };
    }),
    texts: runs.text === null ? null : runs.texts,
    exceptions: content.exceptions.map((exception) => ({
      ...exception,
      payload: exception.payload === null ? null : Buffer.from(exception.payload).toString('hex'),
    })),
  };
}

export function fromVectorJson(json: VectorJson): BatchContent {
  const runOffsets = new Uint32Array(json.series.length + 1);
  json.series.forEach((series, s) => (runOffsets[s + 1] = (runOffsets[s]) + series.eventTimeUs.length));
  const values = json.series.flatMap((series) => series.value);
  const value = new Float64Array(values.length);
  new BigUint64Array(value.buffer).set(values.map(valueToBits));
  return {
    sealedUs: json.sealedUs,
    arrivalFromUs: json.arrivalFromUs,
    arrivalToUs: json.arrivalToUs,
    runs: {
      count: values.length,
      seriesTable: json.series.map(({ device, metric, tags }) => ({ device, metric, tags })),
      runOffsets,
      eventTimeUs: Float64Array.from(json.series.flatMap((series) => series.eventTimeUs)),
      value,
      text: json.texts === null ? null : Uint32Array.from(json.series.flatMap((series) => series.text ?? [])),
      texts: json.texts ?? [],
    },
    exceptions: json.exceptions.map((exception) => ({
      ...exception,
      payload: exception.payload === null ? null : new Uint8Array(Buffer.from(exception.payload, 'hex')),
    })),
  };
}
