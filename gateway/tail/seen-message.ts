/** One message as a person wants to see it: what came, which rule took it, what it became, or why not and what would help. */
import type { ErrorCode } from '../../shared/errors.ts';
import { isSluiceError, errorMessage } from '../../shared/errors.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { EVENT_TIME_AHEAD_MAX_US, EVENT_TIME_MIN_US } from '../../shared/reading.ts';
import { suggestPreset } from '../decode/presets.ts';
import { suggestMatch } from '../decode/topic-rules.ts';
import type { ReadingSink, SeriesRegistry } from '../journal/journal-api.ts';

/**
 * taken: all of it is readings. partly: some of it is exceptions. dead_letter: nothing could be used, kept as an exception.
 * refused: nothing is kept, the sender is told. ignored: its preset knows that it carries no reading. unmatched: no rule.
 * redelivery: known to be durable. held: the journal takes nothing at the moment.
 */
export type SeenOutcome = 'taken' | 'partly' | 'dead_letter' | 'refused' | 'ignored' | 'unmatched' | 'redelivery' | 'held';

export interface SeenReading {
  readonly device: string;
  readonly metric: string;
  readonly tags: Readonly<Record<string, string>> | null;
  /** RFC 3339; null: the device sent none, arrival counts. */
  readonly time: string | null;
  readonly value: number | null;
  readonly text: string | null;
  /** Why it will be an exception and no reading; null: it will not. */
  readonly quarantined: string | null;
}

export interface SeenProblem {
  readonly code: string;
  readonly message: string;
  readonly device: string | null;
  readonly metric: string | null;
  readonly advice: string;
}

/** The JSON of `decode --json`, `tail --json` and `GET /v1/messages`. */
export interface SeenMessage {
  readonly time: string;
  /** mqtt, http, or the name of a source. */
  readonly source: string;
  readonly topic: string;
  readonly client: string | null;
  readonly bytes: number;
  /** The pattern of the rule that matched; null: none. */
  readonly rule: string | null;
  readonly outcome: SeenOutcome;
  readonly reading_count: number;
  /** The first of them. */
  readonly readings: readonly SeenReading[];
  readonly problem_count: number;
  readonly problems: readonly SeenProblem[];
  /** A rule that would take an unmatched topic, or why a message is ignored. */
  readonly hint: string | null;
  /** The start of it, where it is text; null: it is not. */
  readonly payload: string | null;
}

const READINGS_SHOWN_MAX = 32;
const PROBLEMS_SHOWN_MAX = 16;
const PAYLOAD_SHOWN_BYTES = 512;

const ADVICE: Partial<Record<ErrorCode, string>> = {
  ERR_DECODE_SYNTAX:
    'check what the device sends; where a payload is of a kind that is not recognised by itself, the rule names it: format: json | senml | influx | msgpack | number | text',
  ERR_DECODE_SHAPE:
    'send an object of values, or let the topic name device and metric: match: devices/{device}/{metric}; a known system has a preset',
  ERR_DECODE_VALUE: 'send a finite number, a boolean or a text; what is not known is better left out or null',
  ERR_DECODE_TIME: 'send seconds, ms, µs or ns since 1970 (the rule may name the unit: timeUnit) or RFC 3339 with a zone',
  ERR_DECODE_NAME: 'names have 1 to 256 bytes and no control characters',
  ERR_DECODE_DEVICE: 'put {device} into the match of the rule, or name the key that holds it: deviceKey (line protocol: deviceTags)',
  ERR_DECODE_TOO_DEEP: 'send flatter objects: values may be nested 8 deep',
  ERR_DECODE_TOO_MANY: 'send it as several messages',
  ERR_BROKER_FORBIDDEN: 'use the credential of that device, or one made with `device add --any-device`',
  ERR_SERIES_LIMIT: 'a device may invent names; otherwise raise seriesMax',
};

export function adviceFor(code: string): string {
  return ADVICE[code as ErrorCode] ?? 'docs/errors.md says what the code means';
}

function timeText(us: number): string {
  const ms = us / 1000;
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : `${us} µs`;
}

/** The two bounds of invariant 6, as the journal will apply them. */
function quarantineReason(eventTimeUs: number, arrivalUs: number): string | null {
  if (eventTimeUs < EVENT_TIME_MIN_US) return 'the event time is before 2015: check the clock of the device, or timeUnit';
  return eventTimeUs > arrivalUs + EVENT_TIME_AHEAD_MAX_US
    ? 'the event time is more than 5 minutes in the future: check the clock of the device, or timeUnit'
    : null;
}

export interface SeenStart {
  readonly source: string;
  readonly topic: string;
  readonly client: string | null;
  readonly payload: Uint8Array;
  /** Where it is longer than `payload`. */
  readonly payloadBytes?: number;
  readonly rule: string | null;
  readonly arrivalUs: number;
}

/** Gathers what one message becomes, on its way into another sink. */
export class SeenBuilder implements ReadingSink {
  readonly #start: SeenStart;
  readonly #series: SeriesRegistry;
  readonly #readings: SeenReading[] = [];
  readonly #problems: SeenProblem[] = [];
  #readingCount = 0;
  #problemCount = 0;
  #next: ReadingSink | null = null;

  constructor(start: SeenStart, series: SeriesRegistry) {
    this.#start = start;
    this.#series = series;
  }

  /** This, with everything handed on to `sink`. */
  before(sink: ReadingSink): this {
    this.#next = sink;
    return this;
  }

  add(seriesId: number, eventTimeUs: number, value: number, text: string | null): void {
    this.#next?.add(seriesId, eventTimeUs, value, text);
    if (++this.#readingCount > READINGS_SHOWN_MAX) return;
    const { device, metric, tags } = this.#series.seriesOf(seriesId);
    const stampless = Number.isNaN(eventTimeUs);
    this.#readings.push({
      device,
      metric,
      tags: tags === '' ? null : (JSON.parse(tags) as Record<string, string>),
      time: stampless ? null : timeText(eventTimeUs),
      value: Number.isNaN(value) ? null : value,
      text,
      quarantined: stampless ? null : quarantineReason(eventTimeUs, this.#start.arrivalUs),
    });
  }

  exception(record: ExceptionRecord): void {
    this.#next?.exception(record);
    this.#problemCount += record.readingCount ?? 1;
    if (this.#problems.length >= PROBLEMS_SHOWN_MAX) return;
    // Reasons start with the code's own words (reasonOf).
    const colon = record.reason.indexOf(':');
    const code = `ERR_${record.reason.slice(0, Math.max(0, colon)).toUpperCase()}`;
    const { device, metric } = record;
    this.#problems.push({ code, message: record.reason.slice(colon + 1).trim(), device, metric, advice: adviceFor(code) });
  }

  /** @param error why nothing of the message could be used */
  finish(outcome: SeenOutcome | null, error: unknown = null, hint: string | null = null): SeenMessage {
    const { source, topic, client, payload, rule, arrivalUs } = this.#start;
    if (error !== null) {
      const code = isSluiceError(error) ? error.code : 'ERR_DECODE_SYNTAX';
      // What a message brought before it failed is taken back.
      this.#readings.length = 0;
      this.#readingCount = 0;
      this.#problems.splice(0, Infinity, { code, message: errorMessage(error), device: null, metric: null, advice: adviceFor(code) });
      this.#problemCount = 1;
    }
    return {
      time: timeText(arrivalUs),
      source,
      topic,
      client,
      bytes: this.#start.payloadBytes ?? payload.length,
      rule,
      outcome: outcome ?? (this.#problemCount === 0 ? 'taken' : this.#readingCount === 0 ? 'dead_letter' : 'partly'),
      reading_count: this.#readingCount,
      readings: this.#readings,
      problem_count: this.#problemCount,
      problems: this.#problems,
      hint,
      payload: payloadText(payload),
    };
  }
}

function payloadText(payload: Uint8Array): string | null {
  const text = Buffer.from(payload.buffer, payload.byteOffset, Math.min(payload.length, PAYLOAD_SHOWN_BYTES)).toString('utf8');
  return /\p{Control}/u.test(text.replace(/\s/g, '')) || text.includes('\ufffd\ufffd') ? null : text;
}

/** A rule for a topic that none takes. */
export function unmatchedHint(topic: string): string {
  const preset = suggestPreset(topic);
  return preset === null ? `add to topics: { match: ${JSON.stringify(suggestMatch(topic))} }` : `add to topics: { preset: ${preset} }`;
}
