/**
 * Takes CSV and NDJSON files that are put into a directory, each content exactly once.
 *
 * Constraints: one file at a time, one piece of it (about 2 ms of work) at a time, the next one when that is durable.
 * Layout: DIRECTORY/x.csv waits or is being read; done/x.csv has been read, and done/x.csv.error.json lists what of it are
 * exceptions; failed/x.csv could not be read as a whole, and failed/x.csv.error.json says why.
 *
 * A crash
 *   while a file is hashed or before its first piece is durable: it is read from the start;
 *   between two pieces: its durable part is not stored again (FileReading), and it is gone on with;
 *   after the last piece and before the rename: the content is known as done, the rename is made up for;
 *   after the rename: nothing is left to do.
 * A file that cannot be read or moved now is tried again after settleMs, behind the others.
 * A content that was read before goes to done/ without being stored again, whatever its name is (the last 10,000 of them).
 * Not here: files that grow for ever, subdirectories.
 */
import { mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { open, opendir } from 'node:fs/promises';
import path from 'node:path';
import { SluiceError, errorMessage, isSluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { FileReading, type FileReadingOptions } from './file-reading.ts';

export interface FolderSourceOptions extends FileReadingOptions {
  readonly logger: Logger;
}

export interface FolderSourceStatus {
  readonly kind: 'folder';
  readonly name: string;
  readonly state: 'watching' | 'reading' | 'stopped';
  /** Wall clock, µs. */
  readonly sinceUs: number;
  /** The file at hand; null: none. */
  readonly file: { readonly name: string; readonly bytes: number; readonly bytesRead: number; readonly rows: number } | null;
  readonly filesWaiting: number;
  readonly filesDone: number;
  readonly filesFailed: number;
  readonly lastError: string | null;
}

/** Of one look; further ones have their turn when these are gone. */
const FILES_MAX = 1_000;

/** Of a file, in all usual file systems. */
const NAME_BYTES_MAX = 255;

interface Seen {
  readonly stamp: string;
  readonly sinceUs: number;
}

export class FolderSource {
  readonly #options: FolderSourceOptions;
  readonly #pattern: RegExp;
  /** What was there at the last look, and since when it has been so. */
  #seen = new Map<string, Seen>();
  #cancelLook = (): void => undefined;
  #running: Promise<void> = Promise.resolve();
  #stopping = false;
  #reading: FileReading | null = null;
  #sinceUs: number;
  #filesWaiting = 0;
  #filesDone = 0;
  #filesFailed = 0;
  #lastError: string | null = null;

  constructor(options: FolderSourceOptions) {
    this.#options = options;
    this.#sinceUs = options.clock.nowUs();
    const parts = options.settings.files.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
    this.#pattern = new RegExp(`^${parts.join('.*')}$`, 's');
    this.#lookAfter(0);
  }

  status(): FolderSourceStatus {
    const reading = this.#reading;
    return {
      kind: 'folder',
      name: this.#options.settings.name,
      state: this.#stopping ? 'stopped' : reading === null ? 'watching' : 'reading',
      sinceUs: this.#sinceUs,
      file: reading === null ? null : { name: reading.name, bytes: reading.bytes, bytesRead: reading.bytesRead, rows: reading.report.rows },
      filesWaiting: this.#filesWaiting,
      filesDone: this.#filesDone,
      filesFailed: this.#filesFailed,
      lastError: this.#lastError,
    };
  }

  /** Reads no further; the next start goes on from what is durable. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#cancelLook();
    await this.#running;
  }

  #lookAfter(delayMs: number): void {
    if (this.#stopping) return;
    const look = async (): Promise<void> => {
      try {
        await this.#look();
      } catch (error) {
        this.#trouble(error);
      }
      this.#lookAfter(this.#options.settings.pollIntervalMs);
    };
    this.#cancelLook = this.#options.clock.after(delayMs, () => {
      this.#running = look();
    });
  }

  #trouble(error: unknown): void {
    const message = errorMessage(error);
    // A directory that is not there is told once, not once per look.
    if (message !== this.#lastError) this.#options.logger.warn({ err: error, source: this.#options.settings.name }, 'a watched folder');
    this.#lastError = message;
  }

  async #look(): Promise<void> {
    const { clock, settings } = this.#options;
    const names: string[] = [];
    for await (const entry of await opendir(settings.directory)) {
      if (entry.isFile() && !entry.name.startsWith('.') && this.#pattern.test(entry.name)) names.push(entry.name);
      if (names.length >= FILES_MAX) break;
    }
    const nowUs = clock.monotonicUs();
    const seen = new Map<string, Seen>();
    const complete: string[] = [];
    for (const name of names.sort()) {
      const stat = statSync(path.join(settings.directory, name), { throwIfNoEntry: false });
      if (stat === undefined) continue; // somebody took it away
      const stamp = `${stat.ino} ${stat.size} ${stat.mtimeMs}`;
      const before = this.#seen.get(name);
      const sinceUs = before?.stamp === stamp ? before.sinceUs : nowUs;
      seen.set(name, { stamp, sinceUs });
      if (nowUs - sinceUs >= settings.settleMs * 1000) complete.push(name);
    }
    this.#seen = seen;
    this.#filesWaiting = seen.size;
    for (const name of complete) {
      if (this.#stopping) return;
      try {
        await this.#process(name);
        this.#filesWaiting--;
      } catch (error) {
        // It may be readable later; the others are not to wait for that.
        this.#trouble(new SluiceError('ERR_SOURCE_FILE', `${name}: ${errorMessage(error)}`, { cause: error }));
      }
      this.#seen.delete(name);
    }
  }

  async #process(name: string): Promise<void> {
    const { settings, logger } = this.#options;
    const handle = await open(path.join(settings.directory, name), 'r');
    try {
      const { size, mtimeMs } = await handle.stat();
      const reading = new FileReading(this.#options, { name, handle, bytes: size, mtimeMs }, () => this.#stopping);
      this.#reading = reading;
      const { report } = reading;
      try {
        const outcome = await reading.run();
        if (outcome === 'stopped') return;
        const { listed: _listed, ...figures } = report;
        logger.info({ source: settings.name, file: name, outcome, ...figures }, 'a file has been read');
        this.#settle(name, 'done', report.problems === 0 ? null : report, report.sha256);
        this.#filesDone++;
      } catch (error) {
        if (!isSluiceError(error) || error.kind.retryable) throw error;
        this.#settle(name, 'failed', { code: error.code, error: error.message, ...report }, report.sha256);
        this.#filesFailed++;
        this.#trouble(new SluiceError(error.code, `${name}: ${error.message}`, { cause: error }));
      }
    } finally {
      this.#reading = null;
      await handle.close();
    }
  }

  /** Moves the file, its report first: a file in done/ or failed/ is finished. */
  #settle(name: string, folder: 'done' | 'failed', report: object | null, sha256: string): void {
    const { directory } = this.#options.settings;
    const target = path.join(directory, folder);
    mkdirSync(target, { recursive: true });
    // Another file of this name may lie there.
    const taken = statSync(path.join(target, name), { throwIfNoEntry: false }) !== undefined;
    const again = sha256.slice(0, 12) || 'again';
    const as = taken ? nameWith(name, `.${again}`, again) : name;
    const reportName = nameWith(as, '.error.json', `${again}.error.json`);
    if (report !== null) writeFileSync(path.join(target, reportName), `${JSON.stringify({ file: name, ...report }, null, 2)}\n`);
    renameSync(path.join(directory, name), path.join(target, as));
  }
}

/** @param otherwise where the file system takes no name of that length */
function nameWith(name: string, ending: string, otherwise: string): string {
  return Buffer.byteLength(name) + ending.length <= NAME_BYTES_MAX ? `${name}${ending}` : otherwise;
}
