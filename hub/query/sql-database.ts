/**
 * DuckDB for one statement of a stranger: made for it, locked for it, thrown away after it.
 *
 * In memory, three steps. `plan` parses (and so refuses what is not one SELECT), and says what the statement reads. `makeViews`
 * opens the files of the snapshot to it, by their exact paths, makes the views, and locks: no other file, no extension, no
 * setting, no spilling to disk. `run` runs it. What a statement does to its own database dies with it.
 *
 * Partials in memory become a Parquet file in a directory of this process, so that the views have one kind of source.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  DuckDBInstance,
  StatementType,
  type DuckDBConnection,
  type DuckDBPreparedStatement,
  type DuckDBResult,
  type DuckDBValue,
} from '@duckdb/node-api';
import { errorMessage, SluiceError } from '../../shared/errors.ts';
import { definitionHash } from '../../shared/window/definition.ts';
import { partialColumnsOf } from '../../shared/window/packed-partials.ts';
import type { LakeFile, SnapshotCapture, SnapshotRequest, TableRange } from '../engine-api.ts';
import { atOnce } from '../steps.ts';
import { aggregateColumns } from '../windows/aggregate-rows.ts';
import { encodeParquet } from '../lake/parquet/encode.ts';
import { quote, readParquet } from './duckdb.ts';
import { alertColumns, alertsView } from './sql-alerts.ts';
import { parquetSteps } from './result-formats.ts';
import type { AlertsCapture, SqlQuery, SqlSettings, SqlValue } from './sql-api.ts';
import {
  mentionsOf,
  splitExplain,
  SQL_VIEWS,
  type SqlCondition,
  type SqlMention,
  type SqlMentions,
  type SqlNode,
  type SqlView,
} from './sql-plan.ts';
import { aggregateFiles, ALL_TIME, viewStatements } from './sql-views.ts';

/** `now()` of the plan is earlier than that of the run. */
const NOW_SLACK_US = 60_000_000;

export class SqlDatabase {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  readonly #settings: SqlSettings;
  #directory: string | null = null;
  #openPaths: readonly string[] = [];

  private constructor(instance: DuckDBInstance, connection: DuckDBConnection, settings: SqlSettings) {
    this.#instance = instance;
    this.#connection = connection;
    this.#settings = settings;
  }

  static async open(settings: SqlSettings): Promise<SqlDatabase> {
    const instance = await DuckDBInstance.create(':memory:', {
      threads: String(settings.threads),
      memory_limit: `${Math.floor(settings.memoryBytesMax / 1_000_000)}MB`,
      temp_directory: '',
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
    });
    const connection = await instance.connect();
    await connection.run("SET TimeZone = 'UTC'");
    return new SqlDatabase(instance, connection, settings);
  }

  close(): void {
    this.#connection.closeSync();
    this.#instance.closeSync();
    if (this.#directory !== null) rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Takes effect on what runs now; call again until that has ended. */
  interrupt(): void {
    this.#connection.interrupt();
  }

  /** @throws SluiceError ERR_SQL_INVALID, ERR_SQL_REFUSED */
  async plan(query: SqlQuery): Promise<{ readonly request: SnapshotRequest; readonly views: ReadonlySet<SqlView> }> {
    const { select } = splitExplain(query.sql);
    const mentions = mentionsOf(await this.#parse(select), query.parameters);
    const views = new Set(mentions.keys());
    const aggregates = views.has('devices') ? ALL_TIME : await this.#range(mentions, 'aggregates', 'window_start');
    return {
      request: {
        readings: await this.#range(mentions, 'readings', 'ts'),
        exceptions: views.has('exceptions') ? ALL_TIME : null,
        aggregates,
      },
      views,
    };
  }

  /** @throws SluiceError ERR_QUERY_FILE_GONE, and what DuckDB says */
  async makeViews(
    views: ReadonlySet<SqlView>,
    request: SnapshotRequest,
    capture: SnapshotCapture,
    alerts: AlertsCapture | null,
  ): Promise<void> {
    const tailFiles = request.aggregates === null ? [] : this.#writeTail(capture);
    const alertFiles = alerts === null || alerts.rows.length === 0 ? [] : [this.#writeAlerts(alerts)];
    await this.openFiles([
      ...(capture.readings?.files ?? []),
      ...(capture.exceptions?.files ?? []),
      ...aggregateFiles(capture),
      ...tailFiles,
      ...alertFiles,
    ]);
    const connection = this.#connection;
    for (const statement of viewStatements(views, request, capture, tailFiles)) await this.#naming(connection.run(statement));
    if (views.has('alerts')) await connection.run(alertsView(alertFiles));
    await connection.run('SET lock_configuration = true');
  }

  /** @throws SluiceError ERR_SQL_REFUSED, ERR_QUERY_FILE_GONE, and what DuckDB says */
  async run(query: SqlQuery): Promise<DuckDBResult> {
    const connection = this.#connection;
    const { explain, select } = splitExplain(query.sql);
    const statements = await connection.extractStatements(`${explain} ${select}`);
    const prepared = await this.#naming(statements.prepare(0));
    const isAllowed = prepared.statementType === (explain === '' ? StatementType.SELECT : StatementType.EXPLAIN);
    if (statements.count !== 1 || !isAllowed) throw new SluiceError('ERR_SQL_REFUSED', REFUSAL);
    bind(prepared, query);
    return prepared.stream();
  }

  /** These and no others, once. */
  async openFiles(files: readonly LakeFile[]): Promise<void> {
    this.#openPaths = files.map(({ path: file }) => file);
    await this.#connection.run(`SET allowed_paths = [${this.#openPaths.map(quote).join(', ')}]`);
    await this.#connection.run('SET enable_external_access = false');
  }

  /** An open file that is not there DuckDB takes for a directory, in which it may not look: it is gone, and nobody did what is refused. */
  async #naming<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (cause) {
      const message = errorMessage(cause);
      const gone = message.startsWith('Permission Error') ? this.#openPaths.find((file) => message.includes(`"${file}/`)) : undefined;
      if (gone === undefined) throw cause;
      throw new SluiceError('ERR_QUERY_FILE_GONE', `a file of the lake is gone: ${gone}`, { cause });
    }
  }

  /** Every value of an open file is looked at. What is interrupted, or may not have so much memory, proves nothing. */
  async isReadable(file: LakeFile): Promise<boolean> {
    try {
      await this.#connection.run(`SELECT max(hash(rows)) FROM ${readParquet([file])} rows`);
      return true;
    } catch (cause) {
      return translateSqlError(cause).code === 'ERR_QUERY_MEMORY' || /INTERRUPT/i.test(errorMessage(cause));
    }
  }

  /** What the rows of a statement broke off for: it runs again, and its rows stay where they are. */
  async whyBroken(query: SqlQuery): Promise<unknown> {
    try {
      const prepared = await this.#naming(this.#connection.prepare(`EXPLAIN ANALYZE ${splitExplain(query.sql).select}`));
      bind(prepared, query);
      await prepared.run();
    } catch (cause) {
      return cause;
    }
    return new SluiceError('ERR_QUERY_FAILED', 'the statement broke off while its rows were read; ask again');
  }

  /** The tree of the one SELECT. */
  async #parse(select: string): Promise<SqlNode> {
    const reader = await this.#connection.runAndReadAll(`SELECT json_serialize_sql(${quote(select)}) AS tree`);
    const tree = JSON.parse(String(reader.getColumns()[0]?.[0])) as {
      error: boolean;
      error_type?: string;
      error_message?: string;
      statements?: SqlNode[];
    };
    if (tree.error) {
      if (tree.error_type === 'not implemented' && /Only SELECT/i.test(tree.error_message ?? ''))
        throw new SluiceError('ERR_SQL_REFUSED', REFUSAL);
      throw new SluiceError('ERR_SQL_INVALID', tree.error_message ?? 'the statement cannot be parsed');
    }
    if (tree.statements?.length !== 1) throw new SluiceError('ERR_SQL_REFUSED', `${tree.statements?.length ?? 0} statements: ${REFUSAL}`);
    return tree.statements[0];
  }

  /** The union of what the mentions of a view need; null: it is not mentioned. */
  async #range(mentions: SqlMentions, view: SqlView, timeColumn: string): Promise<TableRange | null> {
    const found = mentions.get(view);
    if (found === undefined) return null;
    const ranges = await Promise.all(found.map((mention) => this.#rangeOf(mention, timeColumn)));
    return ranges.reduce((a, b) => ({
      fromUs: Math.min(a.fromUs, b.fromUs),
      toUs: Math.max(a.toUs, b.toUs),
      devices: a.devices === null || b.devices === null ? null : [...a.devices, ...b.devices],
      metrics: a.metrics === null || b.metrics === null ? null : [...a.metrics, ...b.metrics],
    }));
  }

  async #rangeOf(mention: SqlMention, timeColumn: string): Promise<TableRange> {
    const slackUs = NOW_SLACK_US + this.#settings.timeoutMs * 1000;
    let { fromUs, toUs } = ALL_TIME;
    const times = mention.filter(({ column }) => column === timeColumn);
    for (const { operator, constants } of times) {
      const values = await this.#evaluate(constants, (sql) => `epoch_us((${sql})::TIMESTAMP)::DOUBLE`);
      if (values === null) continue;
      if (operator !== '<=') fromUs = Math.max(fromUs, Math.min(...(values as number[])) - slackUs);
      if (operator !== '>=') toUs = Math.min(toUs, Math.max(...(values as number[])) + slackUs);
    }
    return {
      fromUs,
      // Contradictory conditions read nothing, whatever the files are.
      toUs: Math.max(toUs, fromUs + 1),
      devices: await this.#names(mention.find(({ column, operator }) => column === 'device' && operator === 'in')),
      metrics: await this.#names(mention.find(({ column, operator }) => column === 'metric' && operator === 'in')),
    };
  }

  async #names(condition: SqlCondition | undefined): Promise<readonly string[] | null> {
    return condition === undefined ? null : ((await this.#evaluate(condition.constants, (sql) => `(${sql})::VARCHAR`)) as string[] | null);
  }

  /** null: they cannot be computed; the statement itself will say why. */
  async #evaluate(constants: readonly SqlNode[], cast: (sql: string) => string): Promise<readonly unknown[] | null> {
    const values: unknown[] = [];
    try {
      for (const constant of constants) {
        const statement = { error: false, statements: [{ node: { ...SELECT_TEMPLATE, select_list: [constant] }, named_param_map: [] }] };
        const text = await this.#scalar(
          `json_deserialize_sql(${quote(JSON.stringify(statement, (key, value: unknown) => (key === 'query_location' ? 0 : value)))})`,
        );
        const value = await this.#scalar(cast(String(text).replace(/^SELECT /, '')));
        if (value === null) return null;
        values.push(value);
      }
    } catch {
      return null; // a range is only a help: without one the whole view is read
    }
    return values;
  }

  async #scalar(sql: string): Promise<unknown> {
    return (await this.#connection.runAndReadAll(`SELECT ${sql}`)).getColumns()[0]?.[0] ?? null;
  }

  /** Files of this statement alone. */
  #ownDirectory(): string {
    this.#directory ??= mkdtempSync(path.join(tmpdir(), 'sluice-sql-'));
    return this.#directory;
  }

  #writeAlerts({ rows }: AlertsCapture): LakeFile {
    const file = path.join(this.#ownDirectory(), 'alerts.parquet');
    const bytes = atOnce(parquetSteps(alertColumns(rows)));
    writeFileSync(file, bytes);
    return { path: file, size: bytes.byteLength, day: null };
  }

  #writeTail(capture: SnapshotCapture): LakeFile[] {
    const directory = this.#ownDirectory();
    return capture.aggregates.flatMap(({ definition, tail }, index) =>
      tail
        .filter(({ count }) => count > 0)
        .map(partialColumnsOf)
        .map((columns, part): LakeFile => {
          const file = path.join(directory, `${index}-${part}.parquet`);
          const encoded = atOnce(aggregateColumns(definition, definitionHash(definition), columns, { from: 0, to: 0 }));
          const { bytes } = atOnce(encodeParquet({ rowCount: columns.count, columns: encoded, compression: 'uncompressed' }));
          writeFileSync(file, bytes);
          return { path: file, size: bytes.byteLength, day: null };
        }),
    );
  }
}

function bind(prepared: DuckDBPreparedStatement, { parameters }: SqlQuery): void {
  if (Array.isArray(parameters)) prepared.bind([...(parameters as readonly SqlValue[])] as DuckDBValue[]);
  else prepared.bind({ ...parameters } as Record<string, DuckDBValue>);
}

const REFUSAL = 'one SELECT, or EXPLAIN [ANALYZE] and a SELECT, is allowed; everything else is for the programs that own a lake';

const SELECT_TEMPLATE: SqlNode = {
  type: 'SELECT_NODE',
  modifiers: [],
  cte_map: { map: [] },
  from_table: { type: 'EMPTY', alias: '', sample: null, query_location: 0 },
  where_clause: null,
  group_expressions: [],
  group_sets: [],
  aggregate_handling: 'STANDARD_HANDLING',
  having: null,
  sample: null,
  qualify: null,
};

/** DuckDB's words as an error of ours. */
export function translateSqlError(cause: unknown): SluiceError {
  if (cause instanceof SluiceError) return cause;
  const message = errorMessage(cause);
  if (/Out of Memory|could not allocate|bad_alloc|failed to allocate/i.test(message))
    return new SluiceError(
      'ERR_QUERY_MEMORY',
      'the statement needs more memory than is allowed; read a shorter range, add a LIMIT, or aggregate before joining and sorting',
      { cause },
    );
  if (/(No such file|No files found|Cannot open file)/i.test(message)) return new SluiceError('ERR_QUERY_FILE_GONE', message, { cause });
  if (/Permission Error|file system operations are disabled/i.test(message)) return new SluiceError('ERR_SQL_REFUSED', message, { cause });
  if (/INTERNAL Error|FATAL Error|IO Error/i.test(message)) return new SluiceError('ERR_QUERY_FAILED', message, { cause });
  // DuckDB guesses among the tables about tables, since only the views that a statement names are made.
  const words = message.replace(
    /(Table with name .* does not exist!)(?:\nDid you mean .*)?/,
    `$1\nThere are the views ${SQL_VIEWS.join(', ')}.`,
  );
  return new SluiceError('ERR_SQL_INVALID', words, { cause });
}
