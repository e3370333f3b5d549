/**
 * Payloads into readings: the plan of a topic is made once, then a message costs its parse and one lookup per level of
 * its names. No object per reading exists.
 *
 * Purpose: everything that devices send, as columns of the journal's open group.
 * Constraints: synchronous, not re-entrant; memory bounded by PLANS_MAX and the bounds of SeriesScopes.
 * A fault of the whole message is thrown (ERR_DECODE_*): the caller writes `deadLetter` instead. A fault of a part is an
 * exception in the sink.
 * Not here: which event times are believable (the journal quarantines), redelivery, authentication.
 */
import { isUtf8 } from 'node:buffer';
import { SluiceError, errorMessage, isSluiceError } from '../../shared/errors.ts';
import { EXCEPTION_PAYLOAD_BYTES_MAX, type ExceptionRecord } from '../../shared/exception.ts';
import { RecentProblems } from '../devices/recent-problems.ts';
import type { DeviceClocks } from '../clock-devices.ts';
import type { ReadingSink, SeriesRegistry } from '../journal/journal-api.ts';
import { writeBareValue } from './bare-value.ts';
import { EventTimeReader } from './event-time.ts';
import { decodeShapes } from './json-shapes.ts';
import { parseJson } from './json-text.ts';
import { decodeLines, type LineCursor, type LinePrecision, type LineSeries } from './line-protocol.ts';
import { parseMsgpack } from './msgpack.ts';
import { checkedTags } from './names.ts';
import { PRESETS, decodePreset, type Preset } from './presets.ts';
import { ReadingWriter, cutPayload, reasonOf, type DecodeResult } from './reading-writer.ts';
import { decodeRemoteWrite, type LabelledSeries, type RemoteWriteCursor } from './remote-write.ts';
import { decodeSenml } from './senml.ts';
import { SeriesScopes, type MetricNode, type SeriesScope } from './series-scope.ts';
import type { ShapeContext } from './shape-context.ts';
import { TopicRules, UnmatchedTopicCounts, type PayloadFormat, type TopicRule } from './topic-rules.ts';
import { TwoGenerationCache } from './two-generation-cache.ts';

const PLANS_MAX = 20_000;
/** Plans of longer topics are made each time: the cache is bounded in entries, so each must be small. */
const CACHED_TOPIC_CHARS_MAX = 1_024;
/** Line prefixes known per topic; requests without a device share one larger cache. */
const TOPIC_LINES_MAX = 64;
const REQUEST_LINES_MAX = 20_000;
/** Label sets of remote write: those of some thirty node exporters. */
const LABELLED_MAX = 50_000;

/** Of a slice of lines: about 2 ms, and with one more line still below what a message may have. */
const SLICE_READINGS_MAX = 10_000;

/** What is known of a topic's messages. */
export interface TopicPlan {
  readonly topic: string;
  /** The pattern of the rule that matched. */
  readonly match: string;
  readonly format: PayloadFormat;
  /** null: the rule has no preset. */
  readonly preset: { readonly preset: Preset; readonly kind: string } | null;
  /** Why messages of this topic are taken without a reading: the preset knows that they carry none. null: they may. */
  readonly ignored: string | null;
  /** From the topic; null: the payload names it. */
  readonly device: string | null;
  readonly context: ShapeContext;
  readonly deviceTags: readonly string[];
  /** Of its series in a full buffer. */
  readonly priority: number;
  readonly appliesClock: boolean;
  lines: TwoGenerationCache<string, LineSeries> | null;
  /** Why no message of this topic can be taken: its levels are not usable as names. */
  readonly fault: SluiceError | null;
}

/** What a request says about its body. */
export interface DocumentOptions {
  readonly format: 'json' | 'senml' | 'msgpack';
  /** null: the body names the device. */
  readonly device: string | null;
}

/** A request in line protocol, read slice by slice. */
export interface LineDocument {
  readonly text: string;
  /** null: each line names its device. */
  readonly device: string | null;
  readonly precision: LinePrecision;
  readonly cursor: LineCursor;
  more: boolean;
  known: TwoGenerationCache<string, LineSeries> | null;
}

/** @throws SluiceError ERR_DECODE_SYNTAX: not UTF-8 */
export function lineDocument(body: Buffer, device: string | null, precision: LinePrecision): LineDocument {
  return { text: textOf(body), device, precision, cursor: { at: 0, line: 0 }, more: true, known: null };
}

/** A request of Prometheus' remote write, uncompressed, read slice by slice. */
export interface RemoteWriteRequest {
  readonly body: Buffer;
  readonly deviceLabels: readonly string[];
  readonly cursor: RemoteWriteCursor;
  more: boolean;
}

export function remoteWriteRequest(body: Buffer, deviceLabels: readonly string[]): RemoteWriteRequest {
  return { body, deviceLabels, cursor: { at: 0, series: 0, staleMarkers: 0 }, more: true };
}

export interface DecodeArguments {
  readonly arrivalUs: number;
  /** The one device that the sender may write as; null: any. */
  readonly onlyDevice: string | null;
}

const DOCUMENT_TIME_KEYS: readonly string[] = ['ts', 'timestamp', 'time'];

export class Decoder {
  readonly unmatched = new UnmatchedTopicCounts();
  /** Of topics, for people to see. */
  readonly problems = new RecentProblems();
  readonly #rules: TopicRules;
  readonly #scopes: SeriesScopes;
  readonly #writer: ReadingWriter;
  readonly #plans = new TwoGenerationCache<string, TopicPlan>(PLANS_MAX);
  readonly #requestLines = new TwoGenerationCache<string, LineSeries>(REQUEST_LINES_MAX);
  readonly #labelled = new TwoGenerationCache<string, LabelledSeries>(LABELLED_MAX);
  #generation = 0;

  /** @param clocks learns of the devices' clocks; null: nobody looks at them */
  constructor(rules: readonly TopicRule[], series: SeriesRegistry, clocks: DeviceClocks | null = null) {
    this.#rules = new TopicRules(rules);
    this.#scopes = new SeriesScopes(clocks);
    this.#writer = new ReadingWriter(series, this.#scopes);
  }

  /** The plan of a topic; null: no rule matches (counted here). */
  plan(topic: string): TopicPlan | null {
    const known = this.#plans.get(topic);
    if (known !== undefined) return known;
    const plan = this.#makePlan(topic);
    if (plan === null) this.unmatched.count(topic);
    else if (topic.length <= CACHED_TOPIC_CHARS_MAX) this.#plans.set(topic, plan);
    return plan;
  }

  /**
   * Reads a message into the sink.
   *
   * @throws SluiceError ERR_DECODE_*, ERR_BROKER_FORBIDDEN: nothing of the message is to be kept
   */
  decode(plan: TopicPlan, payload: Buffer, sink: ReadingSink, options: DecodeArguments): DecodeResult {
    if (plan.fault !== null) throw plan.fault;
    const writer = this.#writer;
    writer.begin(sink, options.arrivalUs, options.onlyDevice, plan.priority, plan.appliesClock);
    if (plan.device !== null) writer.permit(plan.device);
    // An empty payload clears a retained message [MQTT-3.3.1-10]; it carries no reading.
    if (payload.length > 0 && plan.ignored === null) this.#decodeTopic(plan, payload);
    this.#forgetPlans();
    const result = writer.finish(payload);
    if (result.problemCount > 0) {
      const [{ code, message }] = result.problems;
      this.problems.note(plan.topic, code, message, result.problemCount, options.arrivalUs);
    }
    return result;
  }

  /** Reads the body of an HTTP request. Faults as `decode`. */
  decodeDocument(body: Buffer, document: DocumentOptions, sink: ReadingSink, options: DecodeArguments): DecodeResult {
    const writer = this.#writer;
    writer.begin(sink, options.arrivalUs, options.onlyDevice);
    let scope: SeriesScope | null = null;
    if (document.device !== null) {
      writer.permit(document.device);
      scope = this.#scopes.scope(document.device, '');
    }
    const value = document.format === 'msgpack' ? parseMsgpack(body) : parseJson(body);
    const context: ShapeContext = {
      writer,
      scopes: this.#scopes,
      scope,
      metric: null,
      time: new EventTimeReader('auto'),
      timeKeys: DOCUMENT_TIME_KEYS,
      deviceKey: 'device',
    };
    if (document.format === 'senml') decodeSenml(context, asPack(value));
    else decodeShapes(context, value);
    this.#forgetPlans();
    return writer.finish(body);
  }

  /**
   * Reads some lines of a request in line protocol; the caller calls again while `lines.more` says so, other work between.
   * Faults as `decode`.
   */
  decodeLineSlice(lines: LineDocument, linesMax: number, sink: ReadingSink, options: DecodeArguments): DecodeResult {
    const writer = this.#writer;
    writer.begin(sink, options.arrivalUs, options.onlyDevice);
    if (lines.device !== null) writer.permit(lines.device);
    const scope = lines.device === null ? null : this.#scopes.scope(lines.device, '');
    const known = scope === null ? this.#requestLines : (lines.known ??= new TwoGenerationCache(REQUEST_LINES_MAX));
    const from = lines.cursor.at;
    lines.more = decodeLines(
      { writer, scopes: this.#scopes, scope, deviceTags: DEFAULT_DEVICE_TAGS, known, time: lines.precision },
      lines.text,
      lines.cursor,
      linesMax,
      SLICE_READINGS_MAX,
    );
    this.#forgetPlans();
    return writer.finish(Buffer.from(lines.text.slice(from, from + EXCEPTION_PAYLOAD_BYTES_MAX)));
  }

  /** Reads some series of a remote write request; the caller calls again while `request.more` says so. Faults as `decode`. */
  decodeRemoteWriteSlice(request: RemoteWriteRequest, samplesMax: number, sink: ReadingSink, options: DecodeArguments): DecodeResult {
    const { deviceLabels, cursor, body } = request;
    const before = { ...cursor };
    try {
      return this.decodeBy(
        (writer, scopes) => {
          request.more = decodeRemoteWrite({ writer, scopes, deviceLabels, known: this.#labelled }, body, cursor, samplesMax);
        },
        Buffer.from(`remote write, series from ${before.series} on`),
        sink,
        options,
      );
    } catch (error) {
      Object.assign(cursor, before);
      throw error;
    }
  }

  /**
   * Reads anything by `write`, which gets what readings are written with. Faults as `decode`.
   *
   * @param payload stands in the exception of the first problem
   */
  decodeBy(
    write: (writer: ReadingWriter, scopes: SeriesScopes) => void,
    payload: Uint8Array,
    sink: ReadingSink,
    options: DecodeArguments,
  ): DecodeResult {
    this.#writer.begin(sink, options.arrivalUs, options.onlyDevice);
    write(this.#writer, this.#scopes);
    this.#forgetPlans();
    return this.#writer.finish(payload);
  }

  /** Instead of a message of which nothing can be used. */
  deadLetter(plan: TopicPlan, payload: Uint8Array, error: unknown, arrivalUs: number): ExceptionRecord {
    const code = isSluiceError(error) ? error.code : 'ERR_DECODE_SYNTAX';
    const reason = reasonOf(code, errorMessage(error));
    this.problems.note(plan.topic, code, errorMessage(error), 1, arrivalUs);
    return {
      kind: 'dead_letter',
      device: plan.fault === null ? plan.device : null,
      metric: plan.fault === null ? (plan.context.metric?.name ?? null) : null,
      fromUs: arrivalUs,
      toUs: arrivalUs + 1,
      readingCount: null,
      reason,
      payload: cutPayload(payload),
    };
  }

  #makePlan(topic: string): TopicPlan | null {
    const match = this.#rules.match(topic);
    if (match === null) return null;
    const { rule } = match;
    const preset = rule.preset === null ? null : PRESETS[rule.preset];
    const about = preset?.topic(match.rest) ?? { device: match.device, kind: '' };
    const device = 'ignored' in about ? null : (match.device ?? about.device);
    let scope: SeriesScope | null = null;
    let metric: MetricNode | null = null;
    let fault: SluiceError | null = null;
    try {
      scope = device === null ? null : this.#scopes.scope(device, checkedTags(match.tags));
      metric = match.metric === null || scope === null ? null : this.#scopes.child(scope.root, match.metric);
    } catch (error) {
      if (!isSluiceError(error)) throw error;
      fault = error;
    }
    // Without spreading: each plan would have a hidden class of its own, and each message look up each field (measured).
    return {
      topic,
      match: rule.match,
      format: rule.format,
      preset: preset === null || 'ignored' in about ? null : { preset, kind: about.kind },
      ignored: 'ignored' in about ? about.ignored : null,
      device,
      context: {
        writer: this.#writer,
        scopes: this.#scopes,
        scope,
        metric,
        time: new EventTimeReader(rule.timeUnit),
        timeKeys: rule.timeKeys,
        deviceKey: rule.deviceKey,
      },
      deviceTags: rule.deviceTags,
      priority: rule.priority,
      appliesClock: rule.deviceClock === 'apply',
      lines: null,
      fault,
    };
  }

  #decodeTopic(plan: TopicPlan, payload: Buffer): void {
    const { context } = plan;
    if (plan.preset !== null) return decodePreset(context, plan.preset.preset, plan.preset.kind, payload);
    switch (plan.format === 'auto' ? recognise(payload, context.metric !== null) : plan.format) {
      case 'json':
        return decodeShapes(context, parseJson(payload));
      case 'senml':
        return decodeSenml(context, asPack(parseJson(payload)));
      case 'msgpack':
        return decodeShapes(context, parseMsgpack(payload));
      case 'influx':
        plan.lines ??= new TwoGenerationCache(TOPIC_LINES_MAX);
        decodeLines(
          {
            writer: context.writer,
            scopes: context.scopes,
            scope: context.scope,
            deviceTags: plan.deviceTags,
            known: plan.lines,
            time: context.time,
          },
          textOf(payload),
        );
        return;
      case 'number':
        return decodeBare(context, payload, false);
      case 'text':
        return decodeBare(context, payload, true);
      case 'bare':
        if (context.metric === null)
          throw new SluiceError(
            'ERR_DECODE_SHAPE',
            'neither JSON, line protocol nor MessagePack, and the topic names no metric for a bare value',
          );
        return decodeBare(context, payload, null);
    }
  }

  /** When the names were forgotten, plans hold detached trees: they go too, or the bound would not hold. */
  #forgetPlans(): void {
    if (this.#generation === this.#scopes.generation) return;
    this.#generation = this.#scopes.generation;
    this.#plans.clear();
    this.#requestLines.clear();
    this.#labelled.clear();
  }
}

const DEFAULT_DEVICE_TAGS: readonly string[] = ['device', 'host'];

function textOf(payload: Buffer): string {
  const text = payload.toString('utf8');
  if (text.includes('\ufffd') && !isUtf8(payload)) throw new SluiceError('ERR_DECODE_SYNTAX', 'the text is not UTF-8');
  return text;
}

function asPack(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new SluiceError('ERR_DECODE_SHAPE', 'a SenML pack is an array of records');
}

function recognise(payload: Buffer, hasMetric: boolean): 'json' | 'msgpack' | 'influx' | 'bare' {
  let at = 0;
  let first = payload[0];
  while (first === 32 || first === 10 || first === 13 || first === 9) first = payload[++at] ?? 0;
  if (first === 0x7b /* { */ || first === 0x5b /* [ */) return 'json';
  if (first >= 0x80 && !isUtf8(payload)) return 'msgpack';
  if (!hasMetric && looksLikeLine(payload, at)) return 'influx';
  return 'bare';
}

/** `name… field=`: a space, then an equals sign in the same line. */
function looksLikeLine(payload: Buffer, from: number): boolean {
  const space = payload.indexOf(32, from);
  const equals = space < 0 ? -1 : payload.indexOf(61, space + 1);
  if (space <= from || equals <= space + 1) return false;
  const newline = payload.indexOf(10, from);
  return newline < 0 || newline > equals || payload[from] === 35; // 35: a comment line before it
}

function decodeBare(context: ShapeContext, payload: Buffer, asText: boolean | null): void {
  const { writer, scope, metric } = context;
  if (scope === null || metric === null)
    throw new SluiceError('ERR_DECODE_SHAPE', 'a bare value needs a topic that names device and metric');
  writeBareValue(writer, scope, metric, NaN, textOf(payload), asText);
}
