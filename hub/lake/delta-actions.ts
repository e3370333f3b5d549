/**
 * The actions of a Delta log entry: types, a tolerant parser, a strict writer. (Delta PROTOCOL.md, "Actions".)
 *
 * Tolerant: unknown actions and fields are skipped, missing statistics and odd numbers of foreign writers are accepted.
 * Not tolerated is what would make the table's content wrong: a line that is no JSON object, an `add`, `remove`, `txn`
 * or `metaData` without what identifies it. Such an entry is corrupt as a whole (ERR_LAKE_LOG_CORRUPT).
 */
import { errorMessage, SluiceError } from '../../shared/errors.ts';

export type PartitionValues = Readonly<Record<string, string | null>>;

/** A data file that belongs to the table from this version on. */
export interface AddFile {
  /** Relative to the table's prefix, decoded; an absolute URI stays as it is. */
  readonly path: string;
  readonly partitionValues: PartitionValues;
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since the Unix epoch; some foreign writers put seconds. */
  readonly modificationTime: number;
  readonly dataChange: boolean;
  /** JSON as the writer made it; `parseFileStats` reads it. */
  readonly stats: string | null;
}

/** A data file that no longer belongs to the table: a tombstone until its retention is over. */
export interface RemoveFile {
  readonly path: string;
  /** Milliseconds since the Unix epoch; 0 if the writer did not say. */
  readonly deletionTimestamp: number;
  readonly dataChange: boolean;
  readonly partitionValues: PartitionValues | null;
  readonly size: number | null;
}

/** The position of one application in this table. */
export interface Txn {
  readonly appId: string;
  readonly version: number;
  /** Milliseconds since the Unix epoch; null: the writer did not say, and it never expires. */
  readonly lastUpdated: number | null;
}

export interface MetaData {
  readonly id: string;
  readonly name: string | null;
  readonly description: string | null;
  readonly schemaString: string;
  readonly partitionColumns: readonly string[];
  readonly configuration: Readonly<Record<string, string>>;
  readonly createdTime: number | null;
}

export interface Protocol {
  readonly minReaderVersion: number;
  readonly minWriterVersion: number;
}

export interface CommitInfo {
  /** Milliseconds since the Unix epoch; null if the writer did not say. */
  readonly timestamp: number | null;
  readonly operation: string | null;
  readonly operationParameters: Readonly<Record<string, unknown>>;
  readonly engineInfo: string | null;
  /** Random identity of one attempt to commit. */
  readonly txnId: string | null;
}

/** One version of a table, or the rows of a checkpoint. */
export interface ActionSet {
  readonly commitInfo: CommitInfo | null;
  readonly protocol: Protocol | null;
  readonly metaData: MetaData | null;
  readonly txns: readonly Txn[];
  readonly adds: readonly AddFile[];
  readonly removes: readonly RemoveFile[];
}

export interface MutableActionSet {
  commitInfo: CommitInfo | null;
  protocol: Protocol | null;
  metaData: MetaData | null;
  txns: Txn[];
  adds: AddFile[];
  removes: RemoveFile[];
}

export function emptyActionSet(): MutableActionSet {
  return { commitInfo: null, protocol: null, metaData: null, txns: [], adds: [], removes: [] };
}

/** The highest protocol that this hub reads and writes: no table features. */
export const READER_VERSION_MAX = 1;
export const WRITER_VERSION_MAX = 2;

/**
 * The actions of one log entry.
 *
 * @param subject names the entry in errors
 * @throws SluiceError ERR_LAKE_LOG_CORRUPT
 */
export function parseLogEntry(bytes: Uint8Array, subject: string): ActionSet {
  const actions = emptyActionSet();
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new SluiceError('ERR_LAKE_LOG_CORRUPT', `${subject} is not UTF-8`, { cause: error });
  }
  let lineCount = 0;
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue;
    lineCount++;
    let action: unknown;
    try {
      action = JSON.parse(line);
    } catch (error) {
      throw new SluiceError('ERR_LAKE_LOG_CORRUPT', `${subject}, line ${lineCount}: ${errorMessage(error)}`, { cause: error });
    }
    collectAction(action, actions, `${subject}, line ${lineCount}`);
  }
  // Every commit has at least one action; an empty object is a write that was torn by something below us.
  if (lineCount === 0) throw new SluiceError('ERR_LAKE_LOG_CORRUPT', `${subject} is empty`);
  return actions;
}

/**
 * Adds one action, as a JSON object or a checkpoint row, to `actions`. Fields that are null count as absent.
 *
 * @throws SluiceError ERR_LAKE_LOG_CORRUPT
 */
export function collectAction(action: unknown, actions: MutableActionSet, subject: string): void {
  const fields = asObject(action);
  if (fields === null) throw corrupt(subject, 'is not an object');
  const add = asObject(fields['add']);
  const remove = asObject(fields['remove']);
  const txn = asObject(fields['txn']);
  const metaData = asObject(fields['metaData']);
  const protocol = asObject(fields['protocol']);
  const commitInfo = asObject(fields['commitInfo']);
  if (add !== null) actions.adds.push(parseAdd(add, subject));
  if (remove !== null) actions.removes.push(parseRemove(remove, subject));
  if (txn !== null) actions.txns.push(parseTxn(txn, subject));
  if (metaData !== null) actions.metaData = parseMetaData(metaData, subject);
  if (protocol !== null) actions.protocol = parseProtocol(protocol, subject);
  if (commitInfo !== null) actions.commitInfo = parseCommitInfo(commitInfo);
}

function parseAdd(fields: Fields, subject: string): AddFile {
  // Reader 1 tables have none; to ignore one would bring deleted rows back.
  if (asObject(fields['deletionVector']) !== null) throw new SluiceError('ERR_LAKE_PROTOCOL', `${subject}: a deletion vector`);
  const stats = fields['stats'];
  return {
    path: decodePath(requiredString(fields, 'path', `${subject}, add`)),
    partitionValues: parsePartitionValues(fields['partitionValues']),
    size: asInteger(fields['size']) ?? 0,
    modificationTime: asInteger(fields['modificationTime']) ?? 0,
    dataChange: fields['dataChange'] !== false,
    stats: typeof stats === 'string' ? stats : asObject(stats) !== null ? JSON.stringify(stats) : null,
  };
}

function parseRemove(fields: Fields, subject: string): RemoveFile {
  return {
    path: decodePath(requiredString(fields, 'path', `${subject}, remove`)),
    deletionTimestamp: asInteger(fields['deletionTimestamp']) ?? 0,
    dataChange: fields['dataChange'] !== false,
    partitionValues: asEntries(fields['partitionValues']) === null ? null : parsePartitionValues(fields['partitionValues']),
    size: asInteger(fields['size']),
  };
}

function parseTxn(fields: Fields, subject: string): Txn {
  const version = asInteger(fields['version']);
  if (version === null) throw corrupt(subject, 'txn without version');
  return { appId: requiredString(fields, 'appId', `${subject}, txn`), version, lastUpdated: asInteger(fields['lastUpdated']) };
}

function parseMetaData(fields: Fields, subject: string): MetaData {
  const columns = fields['partitionColumns'];
  const configuration: Record<string, string> = {};
  for (const [key, value] of asEntries(fields['configuration']) ?? []) configuration[key] = String(value);
  return {
    id: requiredString(fields, 'id', `${subject}, metaData`),
    name: asString(fields['name']),
    description: asString(fields['description']),
    schemaString: requiredString(fields, 'schemaString', `${subject}, metaData`),
    partitionColumns: Array.isArray(columns) ? columns.map(String) : [],
    configuration,
    createdTime: asInteger(fields['createdTime']),
  };
}

function parseProtocol(fields: Fields, subject: string): Protocol {
  const minReaderVersion = asInteger(fields['minReaderVersion']);
  const minWriterVersion = asInteger(fields['minWriterVersion']);
  if (minReaderVersion === null || minWriterVersion === null) throw corrupt(subject, 'protocol without versions');
  return { minReaderVersion, minWriterVersion };
}

function parseCommitInfo(fields: Fields): CommitInfo {
  return {
    timestamp: asInteger(fields['timestamp']),
    operation: asString(fields['operation']),
    operationParameters: asObject(fields['operationParameters']) ?? {},
    engineInfo: asString(fields['engineInfo']),
    txnId: asString(fields['txnId']),
  };
}

/** What this hub says about a commit beside the actions. */
export interface CommitHeader {
  readonly timestampMs: number;
  readonly operation: string;
  readonly operationParameters: Readonly<Record<string, unknown>>;
  readonly engineInfo: string;
  readonly txnId: string;
  /** Which hub wrote it: for people who read the log. */
  readonly hubId: string;
}

/** A log entry, newline-delimited JSON; `commitInfo` first, then protocol, metaData, txn, remove, add. */
export function encodeLogEntry(header: CommitHeader, actions: Omit<ActionSet, 'commitInfo'>): Uint8Array {
  const { timestampMs, ...rest } = header;
  const lines: string[] = [JSON.stringify({ commitInfo: { timestamp: timestampMs, ...rest } })];
  if (actions.protocol !== null) lines.push(JSON.stringify({ protocol: actions.protocol }));
  if (actions.metaData !== null) lines.push(JSON.stringify({ metaData: metaDataFields(actions.metaData) }));
  for (const txn of actions.txns) lines.push(JSON.stringify({ txn: dropNulls({ ...txn }) }));
  for (const remove of actions.removes) lines.push(JSON.stringify({ remove: removeFields(remove) }));
  for (const add of actions.adds) lines.push(JSON.stringify({ add: addFields(add) }));
  return new TextEncoder().encode(`${lines.join('\n')}\n`);
}

export function metaDataFields(metaData: MetaData): Record<string, unknown> {
  return dropNulls({ ...metaData, format: { provider: 'parquet', options: {} } });
}

export function addFields(add: AddFile): Record<string, unknown> {
  return dropNulls({ ...add, path: encodePath(add.path) });
}

export function removeFields(remove: RemoveFile): Record<string, unknown> {
  const hasFileFields = remove.partitionValues !== null && remove.size !== null;
  return dropNulls({ ...remove, path: encodePath(remove.path), extendedFileMetadata: hasFileFields });
}

/** A path as it stands in the log: URI-encoded, '/' kept. */
export function encodePath(path: string): string {
  if (isAbsoluteUri(path)) return path;
  // encodeURI leaves what separates a query and a fragment; in a file name they are ordinary.
  return encodeURI(path).replaceAll('#', '%23').replaceAll('?', '%3F');
}

function decodePath(path: string): string {
  if (isAbsoluteUri(path)) return path;
  try {
    return decodeURIComponent(path);
  } catch {
    // Not URI-encoded at all: the writer put the name itself.
    return path;
  }
}

function isAbsoluteUri(path: string): boolean {
  return /^[A-Za-z][A-Za-z0-9+.-]*:\/\//.test(path);
}

/** What a file's statistics say, as far as they can be understood. */
export interface FileStats {
  readonly numRecords: number | null;
  readonly minValues: Readonly<Record<string, unknown>>;
  readonly maxValues: Readonly<Record<string, unknown>>;
  readonly nullCount: Readonly<Record<string, unknown>>;
}

const NO_STATS: FileStats = { numRecords: null, minValues: {}, maxValues: {}, nullCount: {} };

/** Reads `AddFile.stats`; what cannot be understood counts as not known. Cost: a JSON.parse. */
export function parseFileStats(stats: string | null): FileStats {
  if (stats === null) return NO_STATS;
  try {
    const outer = asObject(JSON.parse(stats));
    // ClickHouse 26.7 wraps its statistics once more.
    const inner = outer?.['stats_json'];
    const fields = typeof inner === 'string' ? asObject(JSON.parse(inner)) : outer;
    if (fields === null) return NO_STATS;
    return {
      numRecords: asInteger(fields['numRecords']),
      minValues: asObject(fields['minValues']) ?? {},
      maxValues: asObject(fields['maxValues']) ?? {},
      nullCount: asObject(fields['nullCount']) ?? {},
    };
  } catch {
    // Statistics only prune; without them a file is read.
    return NO_STATS;
  }
}

type Fields = Readonly<Record<string, unknown>>;

function corrupt(subject: string, what: string): SluiceError {
  return new SluiceError('ERR_LAKE_LOG_CORRUPT', `${subject}: ${what}`);
}

function asObject(value: unknown): Fields | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : null;
}

/** The entries of a map: an object, a Map, or the key-value list that Parquet readers give. */
function asEntries(value: unknown): [string, unknown][] | null {
  if (value instanceof Map) return [...value].map(([key, item]) => [String(key), item]);
  if (Array.isArray(value)) {
    return value.map((entry: unknown) => {
      const fields = asObject(entry);
      return [String(fields?.['key']), fields?.['value']];
    });
  }
  const fields = asObject(value);
  return fields === null ? null : Object.entries(fields);
}

function parsePartitionValues(value: unknown): PartitionValues {
  const values: Record<string, string | null> = {};
  for (const [key, item] of asEntries(value) ?? []) {
    // PROTOCOL.md#partition-value-serialization: the empty string is null.
    values[key] =
      typeof item === 'number' || typeof item === 'boolean' ? String(item) : typeof item === 'string' && item !== '' ? item : null;
  }
  return values;
}

function asString(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

function requiredString(fields: Fields, name: string, subject: string): string {
  const value = fields[name];
  if (typeof value !== 'string' || value === '') throw corrupt(subject, `${name} is missing`);
  return value;
}

/** JSON numbers, checkpoint INT64s (bigint), and the digit strings of some writers. */
function asInteger(value: unknown): number | null {
  const number = typeof value === 'bigint' || (typeof value === 'string' && /^-?\d+$/.test(value)) ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? Math.trunc(number) : null;
}

function dropNulls(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
}
