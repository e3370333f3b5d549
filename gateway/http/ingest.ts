/**
 * `POST /v1/readings`, the Influx write API and Prometheus' remote write into the journal: answered after the group commit.
 *
 * A request of which nothing can be used is refused as a whole and leaves nothing behind: its sender was told. Where some
 * of it can, that is kept, what cannot is an exception, and both are told.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { lineDocument, remoteWriteRequest, type Decoder, type DocumentOptions } from '../decode/decoder.ts';
import type { LinePrecision } from '../decode/line-protocol.ts';
import type { DecodeProblem, DecodeResult } from '../decode/reading-writer.ts';
import type { IngestCounters } from '../ingest-counters.ts';
import type { JournalWriter, ReadingSink, RedeliveryKey } from '../journal/journal-api.ts';
import { messageHash } from '../journal/message-hash.ts';
import type { MessageTap, Watch } from '../tail/message-tap.ts';

/** About 2 ms of decoding: the thread that owns the sockets does nothing longer. */
const LINES_PER_SLICE = 1_000;
const SAMPLES_PER_SLICE = 2_000;
const DISCARD: ReadingSink = { add: () => undefined, exception: () => undefined };
const IDEMPOTENCY_KEY_CHARS_MAX = 255;

export interface IngestAnswer {
  readonly accepted: number;
  readonly rejectedCount: number;
  /** The first of them. */
  readonly rejected: readonly DecodeProblem[];
  /** The request was taken before, under the same Idempotency-Key. */
  readonly replayed: boolean;
}

/** Nothing of the request was taken. */
export class RejectedError extends SluiceError {
  readonly problems: readonly DecodeProblem[];
  readonly problemCount: number;

  constructor(result: DecodeResult) {
    const first = result.problems[0];
    super(first.code, result.problemCount === 1 ? first.message : `${first.message} (and ${result.problemCount - 1} more)`);
    this.problems = result.problems;
    this.problemCount = result.problemCount;
  }
}

export interface IngestOptions {
  readonly decoder: Decoder;
  readonly journal: JournalWriter;
  readonly clock: Clock;
  readonly counters: IngestCounters;
  readonly tap?: MessageTap;
}

export interface IngestRequest {
  /** Where it was sent to. */
  readonly path: string;
  readonly body: Buffer;
  readonly onlyDevice: string | null;
  /** Whose credential; null: anonymous. */
  readonly sender: string | null;
  readonly remoteAddress: string;
}

export class Ingest {
  readonly #options: IngestOptions;

  constructor(options: IngestOptions) {
    this.#options = options;
  }

  /**
   * @param idempotencyKey already told apart by credential; null: none
   * @throws SluiceError ERR_DECODE_*, ERR_JOURNAL_*, ERR_BROKER_FORBIDDEN; RejectedError
   */
  async document(request: IngestRequest, document: DocumentOptions, idempotencyKey: string | null): Promise<IngestAnswer> {
    const { decoder, journal, clock, counters } = this.#options;
    if (idempotencyKey !== null) {
      if (idempotencyKey.length > IDEMPOTENCY_KEY_CHARS_MAX + 130)
        throw new SluiceError('ERR_HTTP_PARAMETER', `the Idempotency-Key has more than ${IDEMPOTENCY_KEY_CHARS_MAX} characters`);
      const known = await this.#taken(idempotencyKey, journal);
      if (known) {
        counters.redeliveries++;
        return { accepted: 0, rejectedCount: 0, rejected: [], replayed: true };
      }
    }
    counters.messages++;
    counters.payloadBytes += request.body.length;
    const options = { arrivalUs: clock.nowUs(), onlyDevice: request.onlyDevice };
    const watch = this.#watch(request, document.format, request.body);
    let result: DecodeResult;
    try {
      result = await this.#store((sink) => decoder.decodeDocument(request.body, document, sink, options), idempotencyKey, watch);
    } catch (error) {
      if (isSluiceError(error)) this.#note(request, error, 1);
      throw error;
    }
    if (result.problemCount > 0) this.#note(request, result.problems[0], result.problemCount);
    return { accepted: result.readingCount, rejectedCount: result.problemCount, rejected: result.problems, replayed: false };
  }

  /** Line protocol, slice by slice: what a slice brought stays even if a later one fails, as with InfluxDB. */
  async lines(request: IngestRequest, device: string | null, precision: LinePrecision): Promise<IngestAnswer> {
    const { decoder, clock } = this.#options;
    const lines = lineDocument(request.body, device, precision);
    return this.#slices(
      request,
      'influx',
      lines,
      () => lines.cursor.at,
      (watch) => {
        const options = { arrivalUs: clock.nowUs(), onlyDevice: request.onlyDevice };
        return this.#store((sink) => decoder.decodeLineSlice(lines, LINES_PER_SLICE, sink, options), null, watch);
      },
    );
  }

  /**
   * Prometheus' remote write, slice by slice. Every sample has its own time, and a Prometheus that got no answer sends the same
   * bytes again: slices that are durable already are known by them and not stored again.
   *
   * @param deviceLabels the first of these labels that a series has names its device
   */
  async remoteWrite(request: IngestRequest, deviceLabels: readonly string[]): Promise<IngestAnswer> {
    const { decoder, clock, counters } = this.#options;
    const series = remoteWriteRequest(request.body, deviceLabels);
    const hash = messageHash(request.path, request.body);
    const clientId = `remote-write/${request.sender ?? request.remoteAddress}`;
    const answer = await this.#slices(
      request,
      'remote write',
      series,
      () => series.cursor.at,
      (watch) => {
        const sliceHash = (hash + series.cursor.at) % Number.MAX_SAFE_INTEGER;
        const key: RedeliveryKey = { clientId, messageId: sliceHash & 0xffff, hash: sliceHash, qos: 1 };
        const options = { arrivalUs: clock.nowUs(), onlyDevice: request.onlyDevice };
        const decode = (sink: ReadingSink): DecodeResult => decoder.decodeRemoteWriteSlice(series, SAMPLES_PER_SLICE, sink, options);
        return this.#redelivered(key, decode, watch) ?? this.#store(decode, null, watch, key);
      },
    );
    counters.staleMarkers += series.cursor.staleMarkers;
    return answer;
  }

  /** Decodes and stores slice by slice, other work between. @param store takes the next slice; it moves what `at` gives */
  async #slices(
    request: IngestRequest,
    rule: string,
    document: { readonly more: boolean },
    at: () => number,
    store: (watch: Watch | null) => Promise<DecodeResult>,
  ): Promise<IngestAnswer> {
    const { counters } = this.#options;
    counters.messages++;
    counters.payloadBytes += request.body.length;
    const stored: Promise<DecodeResult>[] = [];
    const rejected: DecodeProblem[] = [];
    let rejectedCount = 0;
    try {
      while (document.more) {
        const from = at();
        const slice = store(this.#watch(request, rule, from === 0 && rule === 'influx' ? request.body : null)).catch((error: unknown) => {
          if (!(error instanceof RejectedError)) throw error;
          rejected.push(...error.problems);
          rejectedCount += error.problemCount;
          return { readingCount: 0, problemCount: 0, problems: [] };
        });
        slice.catch(() => undefined); // awaited below; an earlier failure must not leave this one unhandled
        stored.push(slice);
        // A journal that takes nothing has not even decoded: its refusal comes with the answer.
        if (document.more) await (at() === from ? slice : nextTurn());
      }
    } catch (error) {
      await Promise.allSettled(stored);
      if (isSluiceError(error)) this.#note(request, error, 1);
      throw error;
    }
    const results = await Promise.all(stored);
    let accepted = 0;
    for (const result of results) {
      accepted += result.readingCount;
      rejectedCount += result.problemCount;
      rejected.push(...result.problems);
    }
    rejected.sort((a, b) => a.entry - b.entry);
    if (rejectedCount > 0) this.#note(request, rejected[0], rejectedCount);
    return { accepted, rejectedCount, rejected, replayed: false };
  }

  #note({ path }: IngestRequest, error: { readonly code: string; readonly message: string }, count: number): void {
    const { decoder, clock } = this.#options;
    decoder.problems.note(path, error.code, error.message, count, clock.nowUs());
  }

  /** @param payload null: a later part of the request, whose start was shown */
  #watch({ path, body, sender }: IngestRequest, rule: string, payload: Buffer | null): Watch | null {
    const { tap, clock } = this.#options;
    if (tap === undefined || tap.viewers === 0) return null;
    const shown = payload ?? Buffer.alloc(0);
    return tap.watch({
      source: 'http',
      topic: path,
      client: sender,
      payload: shown,
      payloadBytes: body.length,
      rule,
      arrivalUs: clock.nowUs(),
    });
  }

  /** null: it is not one. Otherwise resolves once what came before is durable. */
  #redelivered(key: RedeliveryKey, decode: (sink: ReadingSink) => DecodeResult, watch: Watch | null): Promise<DecodeResult> | null {
    const { journal, counters } = this.#options;
    let settle: (error: Error | null) => void = () => undefined;
    const durable = new Promise<void>((resolve, reject) => {
      settle = (error) => (error === null ? resolve() : reject(error));
    });
    if (!journal.isRedelivery(key, (error) => settle(error))) return null;
    counters.redeliveries++;
    const result = decode(DISCARD); // to know where the next slice begins, and what to answer
    watch?.done('redelivery');
    return durable.then(() => result);
  }

  #store(
    decode: (sink: ReadingSink) => DecodeResult,
    idempotencyKey: string | null,
    watch: Watch | null,
    redelivery: RedeliveryKey | null = null,
  ): Promise<DecodeResult> {
    const { journal, counters } = this.#options;
    return new Promise((resolve, reject) => {
      let result: DecodeResult | null = null;
      const take = (sink: ReadingSink): void => {
        result = decode(watch === null ? sink : watch.before(sink));
        if (result.readingCount === 0 && result.problemCount > 0) throw new RejectedError(result);
      };
      const done = (error: Error | null): void => {
        if (error !== null || result === null) {
          counters.refused++;
          reject(error ?? new SluiceError('ERR_JOURNAL_UNAVAILABLE', 'the journal took nothing'));
          return;
        }
        counters.readings += result.readingCount;
        counters.problems += result.problemCount;
        resolve(result);
      };
      try {
        journal.message(take, { redelivery, idempotencyKey, done });
        watch?.done(result === null ? 'held' : null);
      } catch (error) {
        // A RejectedError's problems were seen one by one.
        watch?.done('refused', error instanceof RejectedError ? null : error);
        reject(error);
      }
    });
  }

  #taken(key: string, journal: JournalWriter): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const known = journal.isIdempotent(key, (error) => (error === null ? resolve(true) : reject(error)));
      if (!known) resolve(false);
    });
  }
}
