/**
 * Reads one file into the journal, once per content.
 *
 * A content is known by its SHA-256. The journal keeps, in the transaction of the readings, the number of the last line that
 * is durable (`SourcePosition`), and FILE_DONE with the last piece. After a crash the lines up to the position are decoded
 * again, so that the report is whole and a time unit that was recognised is recognised again, and are not stored again.
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError, errorMessage, isSluiceError } from '../../shared/errors.ts';
import type { Decoder } from '../decode/decoder.ts';
import type { DecodeResult } from '../decode/reading-writer.ts';
import { RowDecoder, type TableRow } from '../decode/table-rows.ts';
import type { IngestCounters } from '../ingest-counters.ts';
import type { JournalWriter, ReadingSink } from '../journal/journal-api.ts';
import type { MessageTap } from '../tail/message-tap.ts';
import type { FolderSettings } from './folder-settings.ts';
import { readRows } from './table-reader.ts';

export interface FileReadingOptions {
  readonly settings: FolderSettings;
  readonly decoder: Decoder;
  readonly journal: JournalWriter;
  readonly clock: Clock;
  readonly counters: IngestCounters;
  readonly tap: MessageTap;
}

export interface FileReport {
  sha256: string;
  /** Rows that were read, the header not counted. */
  rows: number;
  readings: number;
  /** Rows and values that are exceptions. */
  problems: number;
  /** The first of them. */
  readonly listed: { readonly line: number; readonly code: string; readonly message: string }[];
}

/** Position of a content that has been read to its end. */
const FILE_DONE = Number.MAX_SAFE_INTEGER;
const READ_BYTES = 64 * 1024;
const RETRY_DELAY_MS = 1_000;
const LISTED_MAX = 100;
const SHOWN_CHARS = 512;

const DISCARD: ReadingSink = { add: () => undefined, exception: () => undefined };

export class FileReading {
  readonly report: FileReport = { sha256: '', rows: 0, readings: 0, problems: 0, listed: [] };
  readonly name: string;
  readonly bytes: number;
  bytesRead = 0;
  readonly #options: FileReadingOptions;
  readonly #handle: FileHandle;
  readonly #mtimeMs: number;
  readonly #isStopping: () => boolean;

  constructor(
    options: FileReadingOptions,
    file: { name: string; handle: FileHandle; bytes: number; mtimeMs: number },
    isStopping: () => boolean,
  ) {
    this.#options = options;
    this.name = file.name;
    this.bytes = file.bytes;
    this.#handle = file.handle;
    this.#mtimeMs = file.mtimeMs;
    this.#isStopping = isStopping;
  }

  /**
   * @returns known: this content was read before, under this name or another; stopped: it is to be gone on with later
   * @throws SluiceError not retryable: the file cannot be read as a whole; what is durable of it by then stays
   */
  async run(): Promise<'done' | 'known' | 'stopped'> {
    const { settings, journal } = this.#options;
    if (this.bytes > settings.fileBytesMax)
      throw new SluiceError('ERR_SOURCE_FILE', `it has ${this.bytes} bytes, at most ${settings.fileBytesMax} are allowed (fileBytesMax)`);
    const sha256 = await this.#hash();
    if (sha256 === null) return 'stopped';
    this.report.sha256 = sha256;
    const source = `folder/${settings.name}/${sha256}`;
    const position = journal.sourcePosition(source) ?? 0;
    if (position === FILE_DONE) return 'known';
    const format = formatOf(settings, this.name);
    let columns = format === 'ndjson' ? null : settings.columns;
    let rowDecoder: RowDecoder | null = format === 'ndjson' || columns !== null ? new RowDecoder(settings, columns) : null;
    let held: readonly TableRow[] = [];
    for await (const piece of readRows(this.#chunks(), { format, delimiter: settings.delimiter, encoding: settings.encoding })) {
      if (this.#isStopping()) return 'stopped';
      let rows: readonly TableRow[] = piece;
      if (rowDecoder === null) {
        columns = headerOf(piece[0]);
        rowDecoder = new RowDecoder(settings, columns);
        rows = piece.slice(1);
      }
      if (held.length > 0 && !(await this.#take(rowDecoder, held, source, position, false))) return 'stopped';
      held = rows;
    }
    if (rowDecoder === null) throw new SluiceError('ERR_SOURCE_FILE', 'it is empty: a CSV file has a header, or columns names them');
    return (await this.#take(rowDecoder, held, source, position, true)) ? 'done' : 'stopped';
  }

  /** @returns false: stopped */
  async #take(decoder: RowDecoder, rows: readonly TableRow[], source: string, position: number, last: boolean): Promise<boolean> {
    await this.#requireUnchanged();
    const known = rows.findIndex(({ line }) => line > position);
    const from = known < 0 ? rows.length : known;
    if (from > 0) this.#count(this.#decode(decoder, rows, 0, from, DISCARD), from);
    if (from === rows.length && !last) return true;
    const at = last ? FILE_DONE : rows[rows.length - 1].line;
    const result = await this.#store(decoder, rows, from, { source, at });
    if (result === null) return false;
    this.#count(result, rows.length - from);
    const { counters } = this.#options;
    counters.messages++;
    counters.readings += result.readingCount;
    counters.problems += result.problemCount;
    return true;
  }

  #count(result: DecodeResult, rows: number): void {
    const { report } = this;
    report.rows += rows;
    report.readings += result.readingCount;
    report.problems += result.problemCount;
    for (const { entry, code, message } of result.problems) {
      if (report.listed.length < LISTED_MAX) report.listed.push({ line: entry, code, message: message.replace(/^line \d+: /, '') });
    }
  }

  #decode(rowDecoder: RowDecoder, rows: readonly TableRow[], from: number, to: number, sink: ReadingSink): DecodeResult {
    const { decoder, clock } = this.#options;
    return decoder.decodeBy(
      (writer, scopes) => rowDecoder.write(writer, scopes, rows, from, to),
      Buffer.from(`${this.name}, lines ${rows[from]?.line ?? 0} to ${rows[to - 1]?.line ?? 0}`),
      sink,
      { arrivalUs: clock.nowUs(), onlyDevice: null },
    );
  }

  /** Stores the piece, again and again while the journal cannot. null: stopped. */
  async #store(
    rowDecoder: RowDecoder,
    rows: readonly TableRow[],
    from: number,
    position: { source: string; at: number },
  ): Promise<DecodeResult | null> {
    const { journal, clock } = this.#options;
    for (;;) {
      try {
        return await new Promise<DecodeResult>((resolve, reject) => {
          let result: DecodeResult | null = null;
          const watch = this.#watch(rows, from);
          const decode = (sink: ReadingSink): void => {
            result = this.#decode(rowDecoder, rows, from, rows.length, watch === null ? sink : watch.before(sink));
          };
          const done = (error: Error | null): void => {
            if (error === null && result !== null) resolve(result);
            else reject(error ?? new SluiceError('ERR_JOURNAL_UNAVAILABLE', 'the journal took nothing'));
          };
          journal.message(decode, { redelivery: null, idempotencyKey: null, position, done });
          watch?.done(result === null ? 'held' : null);
        });
      } catch (error) {
        if (!isSluiceError(error) || !error.kind.retryable) throw error;
        if (this.#isStopping()) return null;
        await new Promise<void>((resolve) => void clock.after(RETRY_DELAY_MS, resolve));
      }
      if (this.#isStopping()) return null;
    }
  }

  #watch(rows: readonly TableRow[], from: number): ReturnType<MessageTap['watch']> {
    const { tap, settings, clock } = this.#options;
    if (tap.viewers === 0 || from >= rows.length) return null;
    const { cells, fault } = rows[from];
    const shown = Buffer.from((Array.isArray(cells) ? cells.join(settings.delimiter) : String(cells ?? fault)).slice(0, SHOWN_CHARS));
    const rule = formatOf(settings, this.name);
    return tap.watch({ source: settings.name, topic: this.name, client: null, payload: shown, rule, arrivalUs: clock.nowUs() });
  }

  async *#chunks(): AsyncGenerator<Buffer> {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (let at = 0; at < this.bytes;) {
      const { bytesRead } = await this.#handle.read(buffer, 0, Math.min(READ_BYTES, this.bytes - at), at);
      if (bytesRead === 0) throw changed();
      at += bytesRead;
      this.bytesRead = at;
      yield buffer.subarray(0, bytesRead); // whoever keeps some of it makes a copy
    }
  }

  /** null: stopped. @throws SluiceError ERR_SOURCE_FILE */
  async #hash(): Promise<string | null> {
    const hash = createHash('sha256');
    const text = this.#options.settings.encoding === 'utf8' ? new TextDecoder('utf-8', { fatal: true }) : null;
    try {
      for await (const chunk of this.#chunks()) {
        if (this.#isStopping()) return null;
        hash.update(chunk);
        text?.decode(chunk, { stream: true });
      }
      text?.decode();
    } catch (cause) {
      if (!(cause instanceof TypeError)) throw cause;
      throw new SluiceError('ERR_SOURCE_FILE', `it is not UTF-8 (${errorMessage(cause)}); encoding: latin1 may be what it is`, { cause });
    }
    this.bytesRead = 0;
    return hash.digest('hex');
  }

  async #requireUnchanged(): Promise<void> {
    const { size, mtimeMs } = await this.#handle.stat();
    if (size !== this.bytes || mtimeMs !== this.#mtimeMs) throw changed();
  }
}

function changed(): SluiceError {
  return new SluiceError(
    'ERR_SOURCE_FILE',
    'it changed while it was read: write it elsewhere and rename it into the directory, or raise settleMs',
  );
}

function formatOf({ format }: FolderSettings, name: string): 'csv' | 'ndjson' {
  return format === 'auto' ? (/\.(ndjson|jsonl|json)$/i.test(name) ? 'ndjson' : 'csv') : format;
}

function headerOf({ cells, fault }: TableRow): string[] {
  if (!Array.isArray(cells)) throw new SluiceError('ERR_SOURCE_FILE', `the header is damaged: ${fault ?? 'not a record'}`);
  const names = (cells as string[]).map((name) => name.trim());
  const twice = names.find((name, index) => name !== '' && names.indexOf(name) !== index);
  if (twice !== undefined) throw new SluiceError('ERR_SOURCE_FILE', `two columns are named ${JSON.stringify(twice.slice(0, 100))}`);
  return names;
}
