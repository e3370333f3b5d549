/**
 * Parquet files from plain objects with structs, maps and lists: Delta's checkpoints, not data.
 *
 * The general path: linear, a few µs per row, values PLAIN. Every field is nullable. Levels are those of the Dremel
 * paper as parquet-format's Nested Encoding and LogicalTypes.md ("Maps", "Lists") fix them. Memory: one page per leaf.
 */
import assert from 'node:assert/strict';
import { SluiceError } from '../../../shared/errors.ts';
import { ByteSink } from './byte-sink.ts';
import { ColumnChunk, writeLevels } from './column-chunk.ts';
import { assembleFile, createEncoder, placeChunk, ROW_GROUP_ROWS_MAX, writeBits, type Encoder } from './encode.ts';
import {
  ENCODING,
  PHYSICAL,
  REPETITION,
  schemaLeaves,
  type ChunkMetadata,
  type Leaf,
  type RowGroupMetadata,
  type SchemaNode,
} from './format.ts';
import { writePlainNumbers } from './number-chunk.ts';
import type { Compression } from './page-codec.ts';
import { PAGE_BYTES, VALUE_BYTES_MAX } from './text-chunk.ts';

export type NestedField =
  /** `long`: a safe integer; `timestamp`: integer µs since the epoch. */
  | { readonly name: string; readonly type: 'string' | 'int' | 'long' | 'double' | 'boolean' | 'timestamp' }
  | { readonly name: string; readonly type: 'struct'; readonly fields: readonly NestedField[] }
  /** MAP<STRING, STRING> from an object or a Map. */
  | { readonly name: string; readonly type: 'map_string_string' }
  /** LIST<STRING> from an array. */
  | { readonly name: string; readonly type: 'list_string' };

/** Levels after which a page ends, at a row's end. */
const PAGE_LEVELS = 16_384;
/** Rows between two yields. */
const SLICE_ROWS = 256;

const { required, optional, repeated } = REPETITION;

function fieldNode(field: NestedField): SchemaNode {
  const { name } = field;
  switch (field.type) {
    case 'string':
      return { name, repetition: optional, physical: PHYSICAL.byteArray, annotation: 'string' };
    case 'int':
      return { name, repetition: optional, physical: PHYSICAL.int32 };
    case 'long':
      return { name, repetition: optional, physical: PHYSICAL.int64 };
    case 'timestamp':
      return { name, repetition: optional, physical: PHYSICAL.int64, annotation: 'timestampUs' };
    case 'double':
      return { name, repetition: optional, physical: PHYSICAL.double };
    case 'boolean':
      return { name, repetition: optional, physical: PHYSICAL.boolean };
    case 'struct':
      return { name, repetition: optional, children: field.fields.map(fieldNode) };
    case 'map_string_string': {
      const key: SchemaNode = { name: 'key', repetition: required, physical: PHYSICAL.byteArray, annotation: 'string' };
      const value: SchemaNode = { name: 'value', repetition: optional, physical: PHYSICAL.byteArray, annotation: 'string' };
      return {
        name,
        repetition: optional,
        annotation: 'map',
        children: [{ name: 'key_value', repetition: repeated, children: [key, value] }],
      };
    }
    case 'list_string': {
      const element: SchemaNode = { name: 'element', repetition: optional, physical: PHYSICAL.byteArray, annotation: 'string' };
      return { name, repetition: optional, annotation: 'list', children: [{ name: 'list', repetition: repeated, children: [element] }] };
    }
  }
}

/** One leaf: the page being gathered and the pages sealed so far. */
class LeafWriter {
  readonly #leaf: Leaf;
  readonly #chunk: ColumnChunk;
  #repetition: number[] = [];
  #definition: number[] = [];
  #numbers: number[] = [];
  readonly #texts = new ByteSink(256);
  #nullCount = 0;

  constructor(encoder: Encoder, leaf: Leaf) {
    this.#leaf = leaf;
    this.#chunk = new ColumnChunk(leaf, encoder.codec, encoder.scratch);
  }

  absent(repetition: number, definition: number): void {
    this.#repetition.push(repetition);
    this.#definition.push(definition);
    this.#nullCount++;
  }

  present(repetition: number, value: unknown): void {
    this.#repetition.push(repetition);
    this.#definition.push(this.#leaf.definitionMax);
    if (this.#leaf.physical === PHYSICAL.byteArray) {
      assert(typeof value === 'string', `${this.#leaf.path.join('.')}: not a string`);
      const bytes = value.length * 3 > VALUE_BYTES_MAX ? Buffer.byteLength(value) : 0;
      if (bytes > VALUE_BYTES_MAX)
        throw new SluiceError('ERR_PARQUET_VALUE_TOO_LARGE', `a value of ${bytes} bytes, at most ${VALUE_BYTES_MAX} are allowed`);
      this.#texts.plainString(value);
    } else if (this.#leaf.physical === PHYSICAL.boolean) {
      assert(typeof value === 'boolean', `${this.#leaf.path.join('.')}: not a boolean`);
      this.#numbers.push(value ? 1 : 0);
    } else {
      const isFit = this.#leaf.physical === PHYSICAL.double ? typeof value === 'number' : Number.isSafeInteger(value);
      assert(
        isFit && (this.#leaf.physical !== PHYSICAL.int32 || value === ((value as number) | 0)),
        `${this.#leaf.path.join('.')}: ${String(value)} does not fit`,
      );
      this.#numbers.push(value as number);
    }
  }

  /** Called between rows. */
  sealFullPage(): void {
    if (this.#definition.length >= PAGE_LEVELS || this.#texts.length >= PAGE_BYTES) this.#sealPage();
  }

  #sealPage(): void {
    const { physical, repetitionMax, definitionMax } = this.#leaf;
    const levelCount = this.#definition.length;
    const repetition = Uint32Array.from(this.#repetition);
    const definition = Uint32Array.from(this.#definition);
    const plan = {
      levelCount,
      valueStart: 0,
      valueEnd: 0,
      writeLevels: (sink: ByteSink) => {
        writeLevels(sink, repetition, levelCount, repetitionMax);
        writeLevels(sink, definition, levelCount, definitionMax);
      },
    };
    this.#chunk.beginPage(plan);
    const numbers = Float64Array.from(this.#numbers);
    if (physical === PHYSICAL.byteArray) this.#chunk.page.raw(this.#texts.view());
    else if (physical === PHYSICAL.boolean) writeBits(this.#chunk.page, numbers, 0, numbers.length);
    else writePlainNumbers(this.#chunk.page, physical, numbers, 0, numbers.length);
    this.#chunk.endPage(plan, ENCODING.plain);
    this.#repetition = [];
    this.#definition = [];
    this.#numbers = [];
    this.#texts.reset();
  }

  finish(encoder: Encoder): ChunkMetadata {
    if (this.#definition.length > 0) this.#sealPage();
    return placeChunk(encoder, this.#chunk, { nullCount: this.#nullCount, bounds: null });
  }
}

/** Spreads a value over the leaves below its field. */
type Shredder = (value: unknown, repetition: number, definition: number) => void;

/** Takes the leaves of `field` from `leaves`, in schema order. */
function fieldShredder(field: NestedField, leaves: Iterator<LeafWriter>): Shredder {
  const next = (): LeafWriter => leaves.next().value as LeafWriter;
  if (field.type === 'struct') {
    const children = field.fields.map((child) => ({ name: child.name, shred: fieldShredder(child, leaves) }));
    return (value, repetition, definition) => {
      assert(value == null || typeof value === 'object', `${field.name}: not an object`);
      for (const { name, shred } of children) {
        // A null struct looks at its leaves like a null child one level higher.
        if (value == null) shred(null, repetition, definition);
        else shred((value as Record<string, unknown>)[name], repetition, definition + 1);
      }
    };
  }
  if (field.type === 'map_string_string') {
    const keys = next();
    const values = next();
    return (map, repetition, definition) => {
      const entries = map == null ? [] : [...(map instanceof Map ? (map as Map<unknown, unknown>) : Object.entries(map))];
      if (entries.length === 0) {
        const level = map == null ? definition : definition + 1;
        keys.absent(repetition, level);
        values.absent(repetition, level);
      }
      entries.forEach(([key, value], index) => {
        const level = index === 0 ? repetition : 1;
        keys.present(level, key);
        if (value == null) values.absent(level, definition + 2);
        else values.present(level, value);
      });
    };
  }
  const leaf = next();
  if (field.type === 'list_string') {
    return (list, repetition, definition) => {
      assert(list == null || Array.isArray(list), `${field.name}: not an array`);
      const elements: readonly unknown[] = list ?? [];
      if (elements.length === 0) leaf.absent(repetition, list == null ? definition : definition + 1);
      elements.forEach((element, index) => {
        const level = index === 0 ? repetition : 1;
        if (element == null) leaf.absent(level, definition + 2);
        else leaf.present(level, element);
      });
    };
  }
  return (value, repetition, definition) => {
    if (value == null) leaf.absent(repetition, definition);
    else leaf.present(repetition, value);
  };
}

/**
 * Encodes rows. Absent and undefined fields are null; fields that the schema does not name are left out.
 *
 * @throws SluiceError ERR_PARQUET_VALUE_TOO_LARGE for a text above 64 MiB; a value of a wrong type is an assertion
 */
export function* encodeNestedParquet(
  schema: readonly NestedField[],
  rows: readonly Readonly<Record<string, unknown>>[],
  compression: Compression = 'zstd',
): Generator<void, Uint8Array<ArrayBuffer>> {
  const nodes = schema.map(fieldNode);
  const encoder = createEncoder(compression);
  const groups: RowGroupMetadata[] = [];
  for (let rowStart = 0; rowStart < rows.length; rowStart += ROW_GROUP_ROWS_MAX) {
    const rowEnd = Math.min(rows.length, rowStart + ROW_GROUP_ROWS_MAX);
    const offset = encoder.offset;
    const leaves = schemaLeaves(nodes).map((leaf) => new LeafWriter(encoder, leaf));
    const remaining = leaves.values();
    const shredders = schema.map((field) => ({ name: field.name, shred: fieldShredder(field, remaining) }));
    for (let row = rowStart; row < rowEnd; row++) {
      for (const { name, shred } of shredders) shred((rows[row] as Record<string, unknown>)[name], 0, 0);
      for (const leaf of leaves) leaf.sealFullPage();
      if (row % SLICE_ROWS === 0) yield;
    }
    const chunks: ChunkMetadata[] = [];
    for (const leaf of leaves) {
      chunks.push(leaf.finish(encoder));
      yield;
    }
    groups.push({ rowCount: rowEnd - rowStart, offset, chunks });
  }
  return yield* assembleFile(encoder, nodes, rows.length, groups);
}
