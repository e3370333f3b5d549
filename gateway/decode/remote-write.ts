/**
 * Prometheus remote write 1.0: the protobuf message `prometheus.WriteRequest`, read from its bytes without an object per
 * sample.
 *
 *   WriteRequest { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }
 *   TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2; repeated Exemplar exemplars = 3; repeated Histogram histograms = 4; }
 *   Label { string name = 1; string value = 2; }    Sample { double value = 1; int64 timestamp = 2; } (ms)
 *
 * `__name__` is the metric, the first of `deviceLabels` that a series has its device, the others are tags. A stale marker
 * says that a series has ended and is no reading. NaN and the infinities, which Prometheus takes for values, are readings
 * whose text they are. Metadata and exemplars are not kept; native histograms are problems: classic ones carry the same.
 */
import protobuf, { type Reader } from 'protobufjs/minimal.js';
import { SluiceError, errorMessage, isSluiceError } from '../../shared/errors.ts';
import { fromNumber } from './event-time.ts';
import { MESSAGE_READINGS_MAX } from './limits.ts';
import { checkedTags } from './names.ts';
import type { ReadingWriter } from './reading-writer.ts';
import type { MetricNode, SeriesScope, SeriesScopes } from './series-scope.ts';
import type { TwoGenerationCache } from './two-generation-cache.ts';

/** What one set of labels stands for. */
export interface LabelledSeries {
  readonly scope: SeriesScope;
  readonly metric: MetricNode;
}

export interface RemoteWriteContext {
  readonly writer: ReadingWriter;
  readonly scopes: SeriesScopes;
  readonly deviceLabels: readonly string[];
  /** By the bytes of the labels: a Prometheus sends the same ones every time. */
  readonly known: TwoGenerationCache<string, LabelledSeries>;
}

/** Where to go on in a request. */
export interface RemoteWriteCursor {
  at: number;
  /** Number of the series at `at`, from 0. */
  series: number;
  staleMarkers: number;
}

const LABELS_MAX = 256;
/** Of one series in a request; those of a slice before it have room beside them. */
const SERIES_SAMPLES_MAX = MESSAGE_READINGS_MAX - 4_096;
/** Longer ones are read each time: the cache is bounded in entries, so each must be small. */
const CACHED_LABEL_BYTES_MAX = 1_024;
const WIRE_BYTES = 2;

/** The NaN that Prometheus writes where a series ends (pkg/value: StaleNaN 0x7ff0000000000002). */
function isStaleMarker(body: Buffer, at: number): boolean {
  return body.readUInt32LE(at) === 2 && body.readUInt32LE(at + 4) === 0x7ff00000;
}

/**
 * Reads series from the cursor on until about `samplesMax` samples are read, and moves it.
 *
 * @returns false once there are no more
 * @throws SluiceError ERR_DECODE_SYNTAX: the bytes are not such a message
 */
export function decodeRemoteWrite(context: RemoteWriteContext, body: Buffer, cursor: RemoteWriteCursor, samplesMax: number): boolean {
  try {
    const reader = protobuf.Reader.create(body);
    reader.pos = cursor.at;
    const request = new RequestReader(context, body, reader, cursor);
    // A series without samples costs something too.
    while (reader.pos < reader.len && request.samples + request.seriesRead < samplesMax) request.field();
    cursor.at = reader.pos;
    return reader.pos < reader.len;
  } catch (cause) {
    if (isSluiceError(cause)) throw cause;
    // What protobufjs throws where a message is cut or malformed is a plain RangeError or Error.
    throw new SluiceError('ERR_DECODE_SYNTAX', `not a remote write request: ${errorMessage(cause)}`.slice(0, 200), { cause });
  }
}

class RequestReader {
  readonly #context: RemoteWriteContext;
  readonly #body: Buffer;
  readonly #reader: Reader;
  readonly #cursor: RemoteWriteCursor;
  samples = 0;
  seriesRead = 0;
  // The series at hand.
  /** Its samples are being written: it cannot be refused alone any more. */
  #isWriting = false;
  readonly #values: number[] = [];
  readonly #timesMs: number[] = [];

  constructor(context: RemoteWriteContext, body: Buffer, reader: Reader, cursor: RemoteWriteCursor) {
    this.#context = context;
    this.#body = body;
    this.#reader = reader;
    this.#cursor = cursor;
  }

  /** One field of the request. */
  field(): void {
    const reader = this.#reader;
    const tag = reader.uint32();
    if (tag !== ((1 << 3) | WIRE_BYTES)) return void reader.skipType(tag & 7);
    const { writer } = this.#context;
    writer.beginEntry(this.#cursor.series++);
    this.seriesRead++;
    const end = this.#end();
    try {
      this.#series(end);
    } catch (error) {
      if (!isSluiceError(error) || error.code === 'ERR_DECODE_SYNTAX' || this.#isWriting) throw error;
      writer.problem(error.code, `series ${this.#cursor.series - 1}: ${error.message}`, null, null, NaN);
      reader.pos = end;
    }
  }

  /** Reads a length. @returns where the message that follows ends */
  #end(): number {
    const length = this.#reader.uint32();
    const end = this.#reader.pos + length;
    if (end > this.#reader.len) throw new SluiceError('ERR_DECODE_SYNTAX', `a field of ${length} bytes goes beyond the end of the request`);
    return end;
  }

  #series(end: number): void {
    const reader = this.#reader;
    const labels: { from: number; to: number }[] = [];
    let labelBytesFrom = -1;
    let labelBytesTo = -1;
    let together = true;
    let count = 0;
    let histograms = 0;
    while (reader.pos < end) {
      const at = reader.pos;
      const tag = reader.uint32();
      if (tag === ((1 << 3) | WIRE_BYTES)) {
        if (labels.length >= LABELS_MAX) throw new SluiceError('ERR_DECODE_TOO_MANY', `a series has more than ${LABELS_MAX} labels`);
        if (labelBytesFrom < 0) labelBytesFrom = at;
        else if (at !== labelBytesTo) together = false;
        const to = this.#end();
        labels.push({ from: reader.pos, to });
        reader.pos = labelBytesTo = to;
      } else if (tag === ((2 << 3) | WIRE_BYTES)) {
        if (count >= SERIES_SAMPLES_MAX)
          throw new SluiceError('ERR_DECODE_TOO_MANY', `it has more than ${SERIES_SAMPLES_MAX} samples: send it in several requests`);
        if (this.#sample(this.#end(), count)) count++;
      } else {
        if (tag === ((4 << 3) | WIRE_BYTES)) histograms++;
        reader.skipType(tag & 7);
      }
    }
    if (reader.pos !== end) throw new SluiceError('ERR_DECODE_SYNTAX', 'a field goes beyond the end of its series');
    if (count === 0 && histograms === 0) return;
    const key =
      together && labelBytesTo - labelBytesFrom <= CACHED_LABEL_BYTES_MAX
        ? this.#body.toString('latin1', labelBytesFrom, labelBytesTo)
        : null;
    const series = this.#resolve(labels, key);
    reader.pos = end;
    this.#isWriting = true;
    this.#write(series, count, histograms);
    this.#isWriting = false;
  }

  /** @returns false: a stale marker */
  #sample(end: number, index: number): boolean {
    const reader = this.#reader;
    let value = 0;
    let timeMs = 0;
    let stale = false;
    while (reader.pos < end) {
      const tag = reader.uint32();
      if (tag === ((1 << 3) | 1)) {
        stale = reader.pos + 8 <= reader.len && isStaleMarker(this.#body, reader.pos);
        value = reader.double();
      } else if (tag === 2 << 3) {
        timeMs = (reader.int64() as unknown as { toNumber(): number }).toNumber(); // a Long, whose types protobufjs does not bring
      } else reader.skipType(tag & 7);
    }
    if (reader.pos !== end) throw new SluiceError('ERR_DECODE_SYNTAX', 'a field goes beyond the end of its sample');
    this.samples++;
    if (stale) {
      this.#cursor.staleMarkers++;
      return false;
    }
    this.#values[index] = value;
    this.#timesMs[index] = timeMs;
    return true;
  }

  #resolve(labels: readonly { from: number; to: number }[], key: string | null): LabelledSeries {
    const { known, writer } = this.#context;
    const found = key === null ? undefined : known.get(key);
    const series = found ?? this.#seriesOf(labels);
    if (found === undefined && key !== null) known.set(key, series);
    writer.permit(series.scope.device);
    return series;
  }

  #seriesOf(labels: readonly { from: number; to: number }[]): LabelledSeries {
    const { scopes, deviceLabels } = this.#context;
    const tags = new Map<string, string>();
    for (const { from, to } of labels) {
      const [name, value] = this.#label(from, to);
      if (value !== '') tags.set(name, value); // an empty label is none
    }
    const metric = tags.get('__name__');
    tags.delete('__name__');
    if (metric === undefined) throw new SluiceError('ERR_DECODE_NAME', 'it has no label __name__');
    const deviceLabel = deviceLabels.find((label) => tags.has(label));
    if (deviceLabel === undefined)
      throw new SluiceError(
        'ERR_DECODE_DEVICE',
        `${metric.slice(0, 60)}: no label ${deviceLabels.map((label) => `"${label}"`).join(' or ')} names the device`,
      );
    const device = tags.get(deviceLabel) ?? '';
    tags.delete(deviceLabel);
    const scope = scopes.scope(device, checkedTags(Object.fromEntries(tags)));
    return { scope, metric: scopes.child(scope.root, metric) };
  }

  #label(from: number, to: number): [name: string, value: string] {
    const reader = this.#reader;
    reader.pos = from;
    let name = '';
    let value = '';
    while (reader.pos < to) {
      const tag = reader.uint32();
      if (tag !== ((1 << 3) | WIRE_BYTES) && tag !== ((2 << 3) | WIRE_BYTES)) {
        reader.skipType(tag & 7);
        continue;
      }
      const end = this.#end();
      const text = this.#body.toString('utf8', reader.pos, end);
      reader.pos = end;
      if (tag === ((1 << 3) | WIRE_BYTES)) name = text;
      else value = text;
    }
    if (reader.pos !== to || name === '') throw new SluiceError('ERR_DECODE_SYNTAX', 'a label is not one');
    if (name.includes('\ufffd') || value.includes('\ufffd'))
      throw new SluiceError('ERR_DECODE_NAME', `label ${name.slice(0, 60)} is not UTF-8`);
    return [name, value];
  }

  #write({ scope, metric }: LabelledSeries, count: number, histograms: number): void {
    const { writer } = this.#context;
    for (let index = 0; index < count; index++) {
      const value = this.#values[index];
      let timeUs: number;
      try {
        timeUs = fromNumber(this.#timesMs[index], 'ms');
      } catch (error) {
        if (!isSluiceError(error)) throw error;
        writer.problem(error.code, error.message, scope.device, metric.name, NaN);
        continue;
      }
      if (Number.isFinite(value)) writer.value(scope, metric, timeUs, value, 0);
      else writer.text(scope, metric, timeUs, Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf');
    }
    if (histograms > 0) {
      const message = `${histograms} native histograms are not taken; classic ones are (scrape_classic_histograms)`;
      writer.problem('ERR_DECODE_SHAPE', message, scope.device, metric.name, NaN);
    }
  }
}
