/**
 * What a Delta table of this hub must look like: columns, partitioning, configuration; and its schemaString.
 */
import { SluiceError } from '../../shared/errors.ts';
import type { MetaData } from './delta-actions.ts';

export type ScalarType = 'string' | 'long' | 'integer' | 'double' | 'boolean' | 'date' | 'timestamp' | 'binary';
export type MapType = { readonly key: ScalarType; readonly value: ScalarType };
export type ColumnType = ScalarType | MapType;

export interface ColumnSpec {
  readonly name: string;
  /** Delta's names: long INT64, timestamp µs in UTC, date days. Every column is nullable. */
  readonly type: ColumnType;
}

export interface TableSpec {
  /** Folder of the table under the lake's root. */
  readonly name: string;
  /** Partition columns included; they are last, as they are not stored in the files. */
  readonly columns: readonly ColumnSpec[];
  readonly partitionColumns: readonly string[];
  readonly configuration: Readonly<Record<string, string>>;
}

/** Delta's schemaString. (PROTOCOL.md, "Schema Serialization Format".) */
export function schemaString(spec: TableSpec): string {
  const fields = spec.columns.map(({ name, type }) => ({ name, type: deltaType(type), nullable: true, metadata: {} }));
  return JSON.stringify({ type: 'struct', fields });
}

function deltaType(type: ColumnType): unknown {
  if (typeof type === 'string') return type;
  return { type: 'map', keyType: type.key, valueType: type.value, valueContainsNull: false };
}

/** The columns that the data files store, in order. */
export function storedColumns(spec: TableSpec): ColumnSpec[] {
  return spec.columns.filter((column) => !spec.partitionColumns.includes(column.name));
}

/**
 * Compares an existing table with what this hub writes. Columns that the hub does not know are allowed if they may be
 * null; its own must be there with their types.
 *
 * @throws SluiceError ERR_LAKE_SCHEMA, ERR_LAKE_PROTOCOL (column invariants, which writer 2 obliges to check)
 */
export function checkTable(spec: TableSpec, metaData: MetaData): void {
  const partitionColumns = metaData.partitionColumns.join(', ');
  if (partitionColumns !== spec.partitionColumns.join(', ')) {
    throw new SluiceError(
      'ERR_LAKE_SCHEMA',
      `${spec.name} is partitioned by (${partitionColumns}), expected (${spec.partitionColumns.join(', ')})`,
    );
  }
  const fields = parseFields(spec.name, metaData.schemaString);
  for (const field of fields.values()) {
    if (field.metadata['delta.invariants'] !== undefined) {
      throw new SluiceError('ERR_LAKE_PROTOCOL', `${spec.name}: column ${field.name} has an invariant, which this hub does not check`);
    }
    if (!field.nullable && !spec.columns.some((column) => column.name === field.name)) {
      throw new SluiceError('ERR_LAKE_SCHEMA', `${spec.name}: column ${field.name} may not be null, and this hub does not write it`);
    }
  }
  for (const column of spec.columns) {
    const found = fields.get(column.name)?.type;
    if (found !== typeKey(deltaType(column.type))) {
      const expected = typeKey(deltaType(column.type));
      throw new SluiceError('ERR_LAKE_SCHEMA', `${spec.name}: column ${column.name} is ${found ?? 'missing'}, expected ${expected}`);
    }
  }
}

interface Field {
  readonly name: string;
  /** Canonical, see typeKey. */
  readonly type: string;
  readonly nullable: boolean;
  readonly metadata: Readonly<Record<string, unknown>>;
}

function parseFields(table: string, schema: string): Map<string, Field> {
  try {
    const { fields } = JSON.parse(schema) as {
      fields: { name: string; type: unknown; nullable?: boolean; metadata?: Record<string, unknown> }[];
    };
    return new Map(
      fields.map(({ name, type, nullable, metadata }) => [
        name,
        { name, type: typeKey(type), nullable: nullable !== false, metadata: metadata ?? {} },
      ]),
    );
  } catch (error) {
    throw new SluiceError('ERR_LAKE_SCHEMA', `${table}: the schemaString cannot be read`, { cause: error });
  }
}

/** Equal for equal types, whatever the order of fields in the JSON and whether map values may be null. */
function typeKey(type: unknown): string {
  if (typeof type === 'string') return type;
  const map = type as { type?: unknown; keyType?: unknown; valueType?: unknown } | null;
  return map?.type === 'map' ? `map<${typeKey(map.keyType)},${typeKey(map.valueType)}>` : JSON.stringify(type);
}

const UNIT_MS: Readonly<Record<string, number>> = {
  millisecond: 1,
  second: 1000,
  minute: 60_000,
  hour: 3_600_000,
  day: 86_400_000,
  week: 7 * 86_400_000,
};

/** A Delta duration ('interval 2 days') in ms; null if it is absent or not understood. */
export function intervalMs(text: string | undefined): number | null {
  const match = /^(?:interval\s+)?(\d+)\s+([a-z]+?)s?$/i.exec((text ?? '').trim());
  const unitMs = UNIT_MS[match?.[2]?.toLowerCase() ?? ''];
  return match === null || unitMs === undefined ? null : Number(match[1]) * unitMs;
}
