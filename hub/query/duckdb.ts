/**
 * DuckDB as a reader of the lake's Parquet files, and of nothing else: the home of its package.
 *
 * In memory, external access off but for the lake's directory, no extensions, configuration locked, memory and threads
 * bounded. Every statement is written by this hub with bound values; a statement that takes too long is interrupted.
 */
import { DuckDBInstance, type DuckDBConnection, type DuckDBValue } from '@duckdb/node-api';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import type { LakeFile } from '../engine-api.ts';
import { isPattern, likeOf } from '../name-patterns.ts';
import type { QuerySettings } from './query-api.ts';
import type { TagFilter } from './tags.ts';

export type SqlParameter = string | number;

/** Columns of a result by name; NULL is null, lists are arrays. */
export type ResultColumns = ReadonlyMap<string, readonly unknown[]>;

/** Two threads: the machine that this is sized for has that many cores, and one belongs to ingest. */
const THREADS = 2;

const INTERRUPT_INTERVAL_MS = 20;

export class LakeReader {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  readonly #timeoutMs: number;
  /** One statement at a time: a second one would hold a thread of the pool only to wait for the connection. */
  #serial: Promise<unknown> = Promise.resolve();
  #closing = false;

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection, timeoutMs: number) {
    this.#instance = instance;
    this.#connection = connection;
    this.#timeoutMs = timeoutMs;
  }

  static async open(settings: QuerySettings): Promise<LakeReader> {
    const instance = await DuckDBInstance.create(':memory:', {
      threads: String(THREADS),
      memory_limit: `${Math.floor(settings.memoryBytesMax / 1_000_000)}MB`,
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
      // An answer must fit into memory: spilling would write to disks that belong to the lake.
      temp_directory: '',
    });
    const connection = await instance.connect();
    await connection.run("SET TimeZone = 'UTC'");
    await connection.run(
      `SET allowed_directories = [${quote(settings.lakeDir.endsWith('/') ? settings.lakeDir : `${settings.lakeDir}/`)}]`,
    );
    await connection.run('SET enable_external_access = false');
    await connection.run('SET lock_configuration = true');
    return new LakeReader(instance, connection, settings.timeoutMs);
  }

  /**
   * @throws SluiceError ERR_QUERY_TIMEOUT, ERR_QUERY_FILE_GONE (vacuum or compaction was faster), ERR_QUERY_MEMORY, ERR_QUERY_FAILED
   */
  query(sql: string, parameters: readonly SqlParameter[], timeoutMs = this.#timeoutMs): Promise<ResultColumns> {
    const result = this.#serial.then(() => this.#run(sql, parameters, timeoutMs));
    this.#serial = result.catch(() => undefined); // its caller has the error; the next statement does not depend on it
    return result;
  }

  /** Interrupts what runs, refuses what waits, frees the memory. */
  async close(): Promise<void> {
    this.#closing = true;
    // Again and again: what is being prepared runs on after an interrupt that came too early.
    const interrupting = setInterval(() => this.#connection.interrupt(), INTERRUPT_INTERVAL_MS);
    await this.#serial;
    clearInterval(interrupting);
    this.#connection.closeSync();
    this.#instance.closeSync();
  }

  async #run(sql: string, parameters: readonly SqlParameter[], timeoutMs: number): Promise<ResultColumns> {
    if (this.#closing) throw new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping');
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      this.#connection.interrupt();
    }, timeoutMs);
    try {
      const reader = await this.#connection.runAndReadAll(sql, [...parameters] as DuckDBValue[]);
      const names = reader.columnNames();
      const columns = reader.getColumns();
      return new Map(names.map((name, index) => [name, (columns[index] ?? []).map(plain)]));
    } catch (cause) {
      throw translate(cause, timedOut, Math.ceil(timeoutMs));
    } finally {
      clearTimeout(timer);
    }
  }
}

function translate(cause: unknown, timedOut: boolean, timeoutMs: number): SluiceError {
  const message = errorMessage(cause);
  if (timedOut)
    return new SluiceError('ERR_QUERY_TIMEOUT', `the query took longer than ${timeoutMs} ms; ask for a shorter range or fewer series`, {
      cause,
    });
  if (/No such file|No files found|Cannot open file/i.test(message)) return new SluiceError('ERR_QUERY_FILE_GONE', message, { cause });
  if (/Out of Memory/i.test(message))
    return new SluiceError('ERR_QUERY_MEMORY', 'the query needs more memory than is allowed; ask for a shorter range or fewer series', {
      cause,
    });
  return new SluiceError('ERR_QUERY_FAILED', message, { cause });
}

/** A list comes as an object that has its items. */
function plain(value: DuckDBValue): unknown {
  if (typeof value === 'object' && value !== null && 'items' in value) return value.items;
  if (typeof value === 'object' && value !== null && 'bytes' in value) return value.bytes;
  return value;
}

export function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** The rows of Parquet files; columns that an older file lacks are null. */
export function readParquet(files: readonly LakeFile[], withFilename = false): string {
  const paths = files.map((file) => quote(file.path)).join(', ');
  return `read_parquet([${paths}], union_by_name = true, hive_partitioning = false${withFilename ? ', filename = true' : ''})`;
}

/** A TIMESTAMPTZ literal, exact to the µs. */
export function timestamp(us: number): string {
  const clamped = Math.min(Math.max(us, -62_135_596_800_000_000), 253_402_300_799_000_000); // years 1 to 9999
  const seconds = Math.floor(clamped / 1_000_000);
  const text = new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ');
  return `TIMESTAMPTZ '${text}.${String(clamped - seconds * 1_000_000).padStart(6, '0')}+00'`;
}

/** Conditions and their bound values under construction. */
export class Where {
  readonly parameters: SqlParameter[] = [];
  readonly #conditions: string[] = [];

  and(condition: string): this {
    this.#conditions.push(condition);
    return this;
  }

  bind(value: SqlParameter): string {
    this.parameters.push(value);
    return `$${this.parameters.length}`;
  }

  /** null: no condition. `*` in a name stands for any characters. */
  oneOf(column: string, names: readonly string[] | null): this {
    if (names === null) return this;
    const exact = names.filter((name) => !isPattern(name)).map((name) => this.bind(name));
    const patterns = names.filter(isPattern).map((name) => `${column} LIKE ${this.bind(likeOf(name))} ESCAPE '\\'`);
    const alternatives = [...(exact.length === 0 ? [] : [`${column} IN (${exact.join(', ')})`]), ...patterns];
    return this.and(alternatives.length === 0 ? 'false' : `(${alternatives.join(' OR ')})`);
  }

  /** As `oneOf`, and rows in which the column is null: they may be of any. */
  oneOfOrUnknown(column: string, names: readonly string[] | null): this {
    if (names === null) return this;
    const known = new Where();
    known.parameters.push(...this.parameters);
    known.oneOf(column, names);
    this.parameters.push(...known.parameters.slice(this.parameters.length));
    return this.and(`(${column} IS NULL OR ${known.sql})`);
  }

  /** Of a column with canonical JSON. */
  tags(column: string, filter: TagFilter | null | undefined): this {
    for (const [key, values] of Object.entries(filter ?? {}))
      // A pointer (RFC 6901) and not a path: of a path the key * is every key.
      this.oneOf(`json_extract_string(${column}, ${this.bind(`/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`)})`, values);
    return this;
  }

  get sql(): string {
    return this.#conditions.length === 0 ? 'true' : this.#conditions.join(' AND ');
  }
}
