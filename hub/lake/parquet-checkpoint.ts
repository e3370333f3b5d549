/**
 * Checkpoints as Parquet: one row per action, one struct column per kind of action. (PROTOCOL.md, "Checkpoint Schema".)
 *
 * Decoding takes any classic checkpoint, whatever columns it has beside these, and demands what a whole one has:
 * exactly one protocol and one metaData.
 */
import { SluiceError } from '../../shared/errors.ts';
import { addFields, collectAction, emptyActionSet, metaDataFields, removeFields, type ActionSet } from './delta-actions.ts';
import type { CheckpointFormat } from './delta-checkpoint.ts';
import { encodeNestedParquet, type NestedField } from './parquet/encode-nested.ts';
import { readParquetRows } from './parquet/read.ts';

const ACTION_COLUMNS = ['txn', 'add', 'remove', 'metaData', 'protocol'];

const SCHEMA: readonly NestedField[] = [
  {
    name: 'txn',
    type: 'struct',
    fields: [
      { name: 'appId', type: 'string' },
      { name: 'version', type: 'long' },
      { name: 'lastUpdated', type: 'long' },
    ],
  },
  {
    name: 'add',
    type: 'struct',
    fields: [
      { name: 'path', type: 'string' },
      { name: 'partitionValues', type: 'map_string_string' },
      { name: 'size', type: 'long' },
      { name: 'modificationTime', type: 'long' },
      { name: 'dataChange', type: 'boolean' },
      { name: 'stats', type: 'string' },
    ],
  },
  {
    name: 'remove',
    type: 'struct',
    fields: [
      { name: 'path', type: 'string' },
      { name: 'deletionTimestamp', type: 'long' },
      { name: 'dataChange', type: 'boolean' },
      { name: 'extendedFileMetadata', type: 'boolean' },
      { name: 'partitionValues', type: 'map_string_string' },
      { name: 'size', type: 'long' },
    ],
  },
  {
    name: 'metaData',
    type: 'struct',
    fields: [
      { name: 'id', type: 'string' },
      { name: 'name', type: 'string' },
      { name: 'description', type: 'string' },
      {
        name: 'format',
        type: 'struct',
        fields: [
          { name: 'provider', type: 'string' },
          { name: 'options', type: 'map_string_string' },
        ],
      },
      { name: 'schemaString', type: 'string' },
      { name: 'partitionColumns', type: 'list_string' },
      { name: 'configuration', type: 'map_string_string' },
      { name: 'createdTime', type: 'long' },
    ],
  },
  {
    name: 'protocol',
    type: 'struct',
    fields: [
      { name: 'minReaderVersion', type: 'int' },
      { name: 'minWriterVersion', type: 'int' },
    ],
  },
];

/** Between slices of this long the thread answers others (design: no task above 5 ms). */
const YIELD_EVERY_MS = 4;

export const parquetCheckpointFormat: CheckpointFormat = {
  async encode(actions) {
    const rows = checkpointRows(actions);
    const encoding = encodeNestedParquet(SCHEMA, rows);
    let sliceStartMs = performance.now();
    for (;;) {
      const step = encoding.next();
      if (step.done === true) return step.value;
      if (performance.now() - sliceStartMs < YIELD_EVERY_MS) continue;
      await new Promise((resolve) => void setImmediate(resolve));
      sliceStartMs = performance.now();
    }
  },

  async decode(bytes) {
    const actions = emptyActionSet();
    let metaDataCount = 0;
    let protocolCount = 0;
    for (const [index, row] of (await readParquetRows(bytes, { columns: ACTION_COLUMNS })).entries()) {
      collectAction(row, actions, `checkpoint row ${index}`);
      if (row['metaData'] != null) metaDataCount++;
      if (row['protocol'] != null) protocolCount++;
    }
    if (metaDataCount !== 1 || protocolCount !== 1) {
      throw new SluiceError('ERR_LAKE_CHECKPOINT', `${protocolCount} protocol and ${metaDataCount} metaData rows, expected 1 and 1`);
    }
    return actions;
  },
};

function checkpointRows(actions: ActionSet): Record<string, unknown>[] {
  const rows: Record<string, unknown>[] = [];
  if (actions.protocol !== null) rows.push({ protocol: actions.protocol });
  if (actions.metaData !== null) rows.push({ metaData: metaDataFields(actions.metaData) });
  for (const txn of actions.txns) rows.push({ txn });
  for (const remove of actions.removes) rows.push({ remove: removeFields(remove) });
  for (const add of actions.adds) rows.push({ add: addFields(add) });
  return rows;
}
