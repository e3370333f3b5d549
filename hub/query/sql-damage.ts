/**
 * Which files of the lake a statement failed over: DuckDB does not say, so they are looked at one by one.
 *
 * In a database of its own: the one of the statement may be unusable after the error. Reading a lake as a whole takes long, so it is
 * done only where the error may be a file's, and within the time that the statement has.
 */
import { errorMessage, isSluiceError } from '../../shared/errors.ts';
import type { LakeFile, SnapshotCapture } from '../engine-api.ts';
import { translateSqlError, type SqlDatabase } from './sql-database.ts';
import { aggregateFiles } from './sql-views.ts';

/** How DuckDB begins what it says about statements and the values that they compute. About files it begins in the same way at times. */
const OF_STATEMENTS =
  /^(?:Parser|Syntax|Binder|Catalog|Conversion|Out of Range|Not implemented|Mismatch Type|Invalid Type|Invalid Input|Constraint|Parameter [A-Za-z ]+) Error/i;

/**
 * @param wereViewsMade a statement is at fault only behind that
 * @returns true too often rather than too seldom
 */
export function mayBeDamage(cause: unknown, wereViewsMade: boolean): boolean {
  const error = translateSqlError(cause);
  if (error.code === 'ERR_QUERY_FILE_GONE' || error.code === 'ERR_QUERY_FAILED') return true;
  if (isSluiceError(cause) || error.code === 'ERR_QUERY_MEMORY' || error.code === 'ERR_SQL_REFUSED') return false;
  const message = errorMessage(cause);
  return !wereViewsMade || !OF_STATEMENTS.test(message) || /parquet/i.test(message);
}

/** Files of the lake, each once. */
export function lakeFilesOf(capture: SnapshotCapture): LakeFile[] {
  return [...(capture.readings?.files ?? []), ...(capture.exceptions?.files ?? []), ...aggregateFiles(capture)];
}

/**
 * @param database a fresh one
 * @param isOver asked before each file: those that are left come to light by the next statement
 * @returns paths as the capture has them
 */
export async function findUnreadable(database: SqlDatabase, files: readonly LakeFile[], isOver: () => boolean): Promise<string[]> {
  const unreadable: string[] = [];
  await database.openFiles(files);
  for (const file of files) {
    if (isOver()) break;
    if (!(await database.isReadable(file)) && !isOver()) unreadable.push(file.path);
  }
  return unreadable;
}
