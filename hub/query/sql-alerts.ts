/** The view `alerts` of SQL: rules' alerts as columns, in a file that is made for one statement. */
import type { Alert } from '../alerts/alert.ts';
import type { LakeFile } from '../engine-api.ts';
import { readParquet } from './duckdb.ts';
import type { ColumnType, ResultTable } from './result-formats.ts';

interface AlertColumn {
  readonly name: string;
  readonly type: ColumnType;
  readonly of: (alert: Alert) => unknown;
}

const text = (name: string, of: AlertColumn['of']): AlertColumn => ({ name, type: 'text', of });
const time = (name: string, of: AlertColumn['of']): AlertColumn => ({ name, type: 'timestamp', of });

/** Named as GET /v1/alerts has them; labels and tags are JSON. */
const COLUMNS: readonly AlertColumn[] = [
  text('id', ({ id }) => id),
  text('rule', ({ rule }) => rule),
  text('state', ({ state }) => state),
  text('severity', ({ severity }) => severity),
  text('summary', ({ summary }) => summary),
  text('condition', ({ condition }) => condition),
  text('labels', ({ labels }) => JSON.stringify(labels)),
  text('gateway', ({ gateway }) => gateway),
  text('device', ({ device }) => device),
  text('metric', ({ metric }) => metric),
  text('tags', ({ tags }) => (tags === '' ? null : tags)),
  { name: 'value', type: 'double', of: ({ value }) => value },
  text('window_name', ({ window }) => window),
  time('window_start', ({ windowStartUs }) => windowStartUs),
  time('window_end', ({ windowEndUs }) => windowEndUs),
  time('since', ({ sinceUs }) => sinceUs),
  time('fired_at', ({ firedUs }) => firedUs),
  time('resolved_at', ({ resolvedUs }) => resolvedUs),
  time('updated_at', ({ updatedUs }) => updatedUs),
  text('cause', ({ cause }) => cause),
];

export function alertColumns(rows: readonly Alert[]): ResultTable {
  return { rowCount: rows.length, columns: COLUMNS.map(({ name, type, of }) => ({ name, type, values: rows.map(of) })) };
}

const SQL_TYPES: Readonly<Record<ColumnType, string>> = {
  text: 'VARCHAR',
  double: 'DOUBLE',
  long: 'BIGINT',
  boolean: 'BOOLEAN',
  timestamp: 'TIMESTAMP',
};

/** @param files of alertColumns; none: there are no alerts */
export function alertsView(files: readonly LakeFile[]): string {
  if (files.length === 0) return `CREATE TABLE alerts (${COLUMNS.map(({ name, type }) => `"${name}" ${SQL_TYPES[type]}`).join(', ')})`;
  // Times are TIMESTAMP in UTC, as in every view.
  const column = ({ name, type }: AlertColumn): string =>
    type === 'timestamp' ? `make_timestamp(epoch_us("${name}")) AS "${name}"` : `"${name}"`;
  return `CREATE VIEW alerts AS SELECT ${COLUMNS.map(column).join(', ')} FROM ${readParquet(files)}`;
}
