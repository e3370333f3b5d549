/**
 * Writes the readings of one message into the journal's columns, counts them against the bounds, and collects what
 * cannot become a reading: such a value is an exception of its own and harms nothing beside it.
 *
 * One writer serves all messages, one after the other: `begin`, readings and problems, `finish`.
 */
import type { ErrorCode } from '../../shared/errors.ts';
import { SluiceError, errorMessage, isSluiceError } from '../../shared/errors.ts';
import { EXCEPTION_PAYLOAD_BYTES_MAX, type ExceptionRecord } from '../../shared/exception.ts';
import { EXACT_INTEGER_MAX } from '../../shared/reading.ts';
import type { ReadingSink, SeriesRegistry } from '../journal/journal-api.ts';
import { ENTRY_FIELDS_MAX, MESSAGE_PROBLEMS_MAX, MESSAGE_READINGS_MAX, NESTING_MAX, TEXT_BYTES_MAX } from './limits.ts';
import type { MetricNode, SeriesScope, SeriesScopes } from './series-scope.ts';

/** Something of a message that is not a reading: an exception, and a line in the answer to an HTTP request. */
export interface DecodeProblem {
  readonly code: ErrorCode;
  readonly message: string;
  /** Number of the entry or line in the payload, from 0. */
  readonly entry: number;
  readonly device: string | null;
  readonly metric: string | null;
  /** Integer µs; arrival where the event time is unknown. */
  readonly timeUs: number;
}

export interface DecodeResult {
  readonly readingCount: number;
  readonly problemCount: number;
  /** At most MESSAGE_PROBLEMS_MAX of them. */
  readonly problems: readonly DecodeProblem[];
}

/** A word that stands for a state and for a number: ON is 1 and stays readable. */
export class StateWord {
  readonly value: number;
  readonly text: string;

  constructor(value: number, text: string) {
    this.value = value;
    this.text = text;
  }
}

/** Metric that keeps the original event times of a device whose times were corrected: how far ahead they were, µs. */
const CLOCK_OFFSET_METRIC = 'device_clock_ahead_us';

const NO_PROBLEMS: readonly DecodeProblem[] = [];

/** Reasons of exceptions start with a stable word: the code without its prefix. */
export function reasonOf(code: ErrorCode, message: string): string {
  return `${code.replace(/^ERR_/, '').toLowerCase()}: ${message}`.slice(0, 300);
}

export class ReadingWriter {
  readonly #series: SeriesRegistry;
  readonly #scopes: SeriesScopes;
  #sink: ReadingSink | null = null;
  #arrivalUs = 0;
  #onlyDevice: string | null = null;
  #readingCount = 0;
  #fieldCount = 0;
  #problems: DecodeProblem[] | null = null;
  #problemCount = 0;
  #priority = 0;
  #appliesClock = false;
  /** Device and time that the message's last correction was told at. */
  #correctedDevice = '';
  #correctedUs = NaN;
  /** Entries are counted by whoever walks them, for the problems' sake. */
  entry = 0;

  constructor(series: SeriesRegistry, scopes: SeriesScopes) {
    this.#series = series;
    this.#scopes = scopes;
  }

  get arrivalUs(): number {
    return this.#arrivalUs;
  }

  get readingCount(): number {
    return this.#readingCount;
  }

  /**
   * @param onlyDevice the one device that the sender may write as; null: any
   * @param priority of series that are new
   * @param appliesClock take the estimated error of the device's clock off its event times, and tell of it beside them
   */
  begin(sink: ReadingSink, arrivalUs: number, onlyDevice: string | null, priority = 0, appliesClock = false): void {
    this.#priority = priority;
    this.#appliesClock = appliesClock;
    this.#correctedUs = NaN;
    this.#sink = sink;
    this.#arrivalUs = arrivalUs;
    this.#onlyDevice = onlyDevice;
    this.#readingCount = 0;
    this.#fieldCount = 0;
    this.#problems = null;
    this.#problemCount = 0;
    this.entry = 0;
  }

  /** Starts the next entry of the message: fields are bounded per entry. */
  beginEntry(index: number): void {
    this.entry = index;
    this.#fieldCount = 0;
  }

  /** @throws SluiceError ERR_BROKER_FORBIDDEN */
  permit(device: string): void {
    if (this.#onlyDevice !== null && device !== this.#onlyDevice) {
      throw new SluiceError(
        'ERR_BROKER_FORBIDDEN',
        `the credential of device ${this.#onlyDevice} may not write readings of device ${device.slice(0, 64)}`,
      );
    }
  }

  /**
   * Writes a value of any kind under the node; containers become dotted names.
   *
   * @throws SluiceError ERR_DECODE_TOO_DEEP, ERR_DECODE_TOO_MANY: the message as a whole is refused
   */
  value(scope: SeriesScope, node: MetricNode, timeUs: number, value: unknown, depth: number): void {
    if (typeof value === 'number') {
      // NaN and infinities come from MessagePack alone; an aggregate would not survive them.
      if (!Number.isFinite(value))
        return this.problem('ERR_DECODE_VALUE', `${value} is not a finite number`, scope.device, node.name, timeUs);
      this.#add(scope, node, timeUs, value, null);
    } else if (typeof value === 'boolean') this.#add(scope, node, timeUs, value ? 1 : 0, null);
    else if (typeof value === 'string') this.text(scope, node, timeUs, value);
    else if (typeof value === 'bigint') this.integer(scope, node, timeUs, value.toString());
    else if (value !== null && value !== undefined) this.#container(scope, node, timeUs, value, depth);
  }

  text(scope: SeriesScope, node: MetricNode, timeUs: number, text: string): void {
    if (text.length * 3 > TEXT_BYTES_MAX && Buffer.byteLength(text) > TEXT_BYTES_MAX) {
      this.problem(
        'ERR_DECODE_VALUE',
        `the text has ${Buffer.byteLength(text)} bytes, at most ${TEXT_BYTES_MAX} are allowed`,
        scope.device,
        node.name,
        timeUs,
      );
    } else this.#add(scope, node, timeUs, NaN, text);
  }

  /** An integer by its digits: exact in text where a double would round it. */
  integer(scope: SeriesScope, node: MetricNode, timeUs: number, digits: string): void {
    const value = Number(digits);
    if (!Number.isFinite(value))
      this.problem('ERR_DECODE_VALUE', `an integer of ${digits.length} digits is too large`, scope.device, node.name, timeUs);
    else this.#add(scope, node, timeUs, value, Math.abs(value) > EXACT_INTEGER_MAX ? digits : null);
  }

  /** The field `key` of a container, its name checked at its first appearance. */
  field(scope: SeriesScope, parent: MetricNode, key: string, timeUs: number, value: unknown, depth: number): void {
    if (value === null || value === undefined) return;
    if (++this.#fieldCount > ENTRY_FIELDS_MAX)
      throw new SluiceError('ERR_DECODE_TOO_MANY', `an entry has more than ${ENTRY_FIELDS_MAX} fields`);
    let node: MetricNode;
    try {
      node = this.#scopes.child(parent, key);
    } catch (error) {
      if (!isSluiceError(error, 'ERR_DECODE_NAME')) throw error;
      return this.problem(error.code, error.message, scope.device, null, timeUs);
    }
    this.value(scope, node, timeUs, value, depth);
  }

  #container(scope: SeriesScope, node: MetricNode, timeUs: number, value: object, depth: number): void {
    if (ArrayBuffer.isView(value)) return this.problem('ERR_DECODE_VALUE', 'binary data is not a value', scope.device, node.name, timeUs);
    if (value instanceof StateWord) return this.#add(scope, node, timeUs, value.value, value.text);
    if (!Array.isArray(value) && Object.getPrototypeOf(value) !== Object.prototype) {
      return this.problem('ERR_DECODE_VALUE', 'a time is not a value', scope.device, node.name, timeUs);
    }
    if (depth >= NESTING_MAX) throw new SluiceError('ERR_DECODE_TOO_DEEP', `values are nested deeper than ${NESTING_MAX}`);
    if (Array.isArray(value)) {
      for (let index = 0; index < value.length; index++) this.field(scope, node, String(index), timeUs, value[index], depth + 1);
    } else {
      for (const key of Object.keys(value)) this.field(scope, node, key, timeUs, (value as Record<string, unknown>)[key], depth + 1);
    }
  }

  #add(scope: SeriesScope, node: MetricNode, timeUs: number, value: number, text: string | null): void {
    if (node.seriesId < 0) {
      try {
        node.seriesId = this.#series.idOf(scope.device, node.name, scope.tags, this.#priority);
      } catch (error) {
        if (!isSluiceError(error, 'ERR_SERIES_LIMIT')) throw error;
        return this.problem(error.code, errorMessage(error), scope.device, node.name, timeUs);
      }
    }
    if (++this.#readingCount > MESSAGE_READINGS_MAX)
      throw new SluiceError('ERR_DECODE_TOO_MANY', `a message has more than ${MESSAGE_READINGS_MAX} readings`);
    const { clock } = scope;
    if (clock !== null) {
      // NaN, no time of its own, is not less.
      const lagUs = this.#arrivalUs - timeUs;
      if (lagUs < clock.leastLagUs) clock.leastLagUs = lagUs;
      if (this.#appliesClock && clock.appliedUs !== 0 && !Number.isNaN(timeUs)) timeUs = this.#corrected(scope, clock.appliedUs, timeUs);
    }
    (this.#sink as ReadingSink).add(node.seriesId, timeUs, value, text);
  }

  /** The time that the device sent is the corrected one plus the reading CLOCK_OFFSET_METRIC at the corrected one. */
  #corrected(scope: SeriesScope, aheadUs: number, timeUs: number): number {
    const correctedUs = timeUs - aheadUs;
    if (this.#correctedUs === correctedUs && this.#correctedDevice === scope.device) return correctedUs;
    const plain = scope.tags === '' ? scope : this.#scopes.scope(scope.device, '');
    const node = this.#scopes.child(plain.root, CLOCK_OFFSET_METRIC);
    if (node.seriesId < 0) {
      try {
        node.seriesId = this.#series.idOf(scope.device, node.name, '', this.#priority);
      } catch (error) {
        if (!isSluiceError(error, 'ERR_SERIES_LIMIT')) throw error;
        return timeUs; // without a place for the original there is no correction
      }
    }
    this.#correctedUs = correctedUs;
    this.#correctedDevice = scope.device;
    (this.#sink as ReadingSink).add(node.seriesId, correctedUs, aheadUs, null);
    return correctedUs;
  }

  problem(code: ErrorCode, message: string, device: string | null, metric: string | null, timeUs: number): void {
    this.#problemCount++;
    this.#problems ??= [];
    if (this.#problems.length < MESSAGE_PROBLEMS_MAX) {
      this.#problems.push({ code, message, entry: this.entry, device, metric, timeUs: Number.isNaN(timeUs) ? this.#arrivalUs : timeUs });
    }
  }

  /** Hands the problems to the sink as exceptions. */
  finish(payload: Uint8Array): DecodeResult {
    const sink = this.#sink as ReadingSink;
    this.#sink = null;
    const problems = this.#problems ?? NO_PROBLEMS;
    // The payload stands once, with the first problem: 16 copies of it would help nobody.
    for (let index = 0; index < problems.length; index++)
      sink.exception(exceptionOf(problems[index], index === 0 ? cutPayload(payload) : null));
    const further = this.#problemCount - problems.length;
    if (further > 0) {
      const summary: ExceptionRecord = {
        kind: 'dead_letter',
        device: null,
        metric: null,
        fromUs: this.#arrivalUs,
        toUs: this.#arrivalUs + 1,
        readingCount: further,
        reason: `decode_further: ${further} more values of the message before`,
        payload: null,
      };
      sink.exception(summary);
    }
    return { readingCount: this.#readingCount, problemCount: this.#problemCount, problems };
  }
}

export function cutPayload(payload: Uint8Array): Uint8Array {
  // A copy: the received bytes belong to a socket's buffer that is used again.
  return Uint8Array.from(payload.subarray(0, EXCEPTION_PAYLOAD_BYTES_MAX));
}

function exceptionOf(problem: DecodeProblem, payload: Uint8Array | null): ExceptionRecord {
  return {
    kind: 'dead_letter',
    device: problem.device,
    metric: problem.metric,
    fromUs: problem.timeUs,
    toUs: problem.timeUs + 1,
    readingCount: 1,
    reason: reasonOf(problem.code, problem.message),
    payload,
  };
}
