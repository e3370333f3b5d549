/** Rows of a Parquet file that is not of our lake, for imports: whatever DuckDB reads, in the order of the file, chunk by chunk. */
import { DuckDBInstance } from '@duckdb/node-api';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { quote } from './duckdb.ts';
import { streamedChunks } from './streamed-chunks.ts';

const MEMORY = '256MB';

/** How a column comes out, by its type: numbers as DOUBLE, timestamps as µs (a text), everything else as text. */
function expressionOf(name: string, type: string, isTime: boolean): string {
  const column = `"${name.replaceAll('"', '""')}"`;
  if (isTime && /^(?:TIMESTAMP|DATE)/.test(type))
    return `strftime(${column}::TIMESTAMPTZ::TIMESTAMP, '%Y-%m-%dT%H:%M:%S.%fZ') AS ${column}`;
  if (/^(?:U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?|FLOAT|DOUBLE|DECIMAL|BOOLEAN)/.test(type) && !(isTime && /BIGINT/.test(type)))
    return `${column}::DOUBLE AS ${column}`;
  return `${column}::VARCHAR AS ${column}`;
}

/**
 * @param columns those that are wanted; one that the file lacks is missing from the rows
 * @throws SluiceError ERR_IMPORT_FILE
 */
export async function* parquetRows(
  file: string,
  columns: readonly string[],
  timeColumn: string,
): AsyncGenerator<{ line: number; row: Record<string, unknown> }> {
  // One thread: rows come in the order of the file.
  const instance = await DuckDBInstance.create(':memory:', {
    threads: '1',
    memory_limit: MEMORY,
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
  });
  const connection = await instance.connect();
  try {
    await connection.run("SET TimeZone = 'UTC'");
    const described = (await connection.runAndReadAll(`DESCRIBE SELECT * FROM read_parquet(${quote(file)})`)).getRows() as unknown as [
      string,
      string,
    ][];
    const known = described.filter(([name]) => columns.includes(name));
    if (known.length < columns.length) {
      const missing = columns.filter((name) => !known.some(([column]) => column === name));
      throw new SluiceError(
        'ERR_IMPORT_MAPPING',
        `${file} has no column ${missing.join(', ')}; it has ${described.map(([name]) => name).join(', ')}`,
      );
    }
    const selected = known.map(([name, type]) => expressionOf(name, type, name === timeColumn));
    const result = await connection.stream(`SELECT ${selected.join(', ')} FROM read_parquet(${quote(file)})`);
    const names = result.columnNames();
    let line = 0;
    for await (const chunk of streamedChunks(result)) {
      for (const values of chunk.getRows()) {
        line++;
        yield { line, row: Object.fromEntries(names.map((name, index) => [name, values[index]])) };
      }
    }
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw new SluiceError('ERR_IMPORT_FILE', `${file}: ${errorMessage(cause)}`, { cause });
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
