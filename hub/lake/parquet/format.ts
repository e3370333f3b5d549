/**
 * Parquet's constants, schema, page headers and footer, as parquet.thrift of the Parquet format 2.x names them.
 *
 * Files say version 1 and use data pages V1: what the widest set of readers takes (Delta's protocol asks for it).
 */
import { VERSION } from '../../../shared/version.ts';
import { ByteSink } from './byte-sink.ts';
import { ThriftWriter } from './thrift.ts';

export const MAGIC = Buffer.from('PAR1', 'latin1');

export const PHYSICAL = { boolean: 0, int32: 1, int64: 2, double: 5, byteArray: 6 } as const;
export type Physical = (typeof PHYSICAL)[keyof typeof PHYSICAL];

export const REPETITION = { required: 0, optional: 1, repeated: 2 } as const;
export type Repetition = (typeof REPETITION)[keyof typeof REPETITION];

/** PLAIN_DICTIONARY is the name that V1 data pages and their dictionary page have for what later became RLE_DICTIONARY. */
export const ENCODING = { plain: 0, plainDictionary: 2, rle: 3, deltaBinaryPacked: 5 } as const;
export type Encoding = (typeof ENCODING)[keyof typeof ENCODING];

export const CODEC = { uncompressed: 0, zstd: 6 } as const;

export const PAGE = { data: 0, dictionary: 2 } as const;
export type PageType = (typeof PAGE)[keyof typeof PAGE];

/** Converted type and the field id of the logical type that says the same. */
const ANNOTATION = {
  string: { converted: 0, logical: 1 },
  map: { converted: 1, logical: 2 },
  list: { converted: 3, logical: 3 },
  decimal: { converted: 5, logical: 5 },
  timestampUs: { converted: 10, logical: 8 },
} as const;

/** A node of the schema tree: a leaf has `physical`, a group has `children`. */
export interface SchemaNode {
  readonly name: string;
  readonly repetition: Repetition;
  readonly annotation?: keyof typeof ANNOTATION;
  /** Of a `decimal`. */
  readonly precision?: number;
  readonly scale?: number;
  readonly physical?: Physical;
  readonly children?: readonly SchemaNode[];
}

/** A leaf with its place in the tree. */
export interface Leaf {
  readonly path: readonly string[];
  readonly physical: Physical;
  readonly definitionMax: number;
  readonly repetitionMax: number;
}

/** The leaves below `nodes` in schema order, which is the order of the column chunks. */
export function schemaLeaves(nodes: readonly SchemaNode[]): Leaf[] {
  const leaves: Leaf[] = [];
  const visit = (node: SchemaNode, path: readonly string[], definition: number, repetition: number): void => {
    const here = [...path, node.name];
    const definitionMax = definition + (node.repetition === REPETITION.required ? 0 : 1);
    const repetitionMax = repetition + (node.repetition === REPETITION.repeated ? 1 : 0);
    if (node.physical !== undefined) leaves.push({ path: here, physical: node.physical, definitionMax, repetitionMax });
    for (const child of node.children ?? []) visit(child, here, definitionMax, repetitionMax);
  };
  for (const node of nodes) visit(node, [], 0, 0);
  return leaves;
}

/** Statistics of a column chunk; the bounds are PLAIN values without a length, both there or both absent. */
export interface ChunkStatistics {
  readonly nullCount: number;
  readonly bounds: { readonly min: Uint8Array; readonly max: Uint8Array } | null;
}

export interface ChunkMetadata {
  readonly leaf: Leaf;
  readonly codec: number;
  /** Levels, that is values and nulls. */
  readonly levelCount: number;
  /** Both with page headers. */
  readonly uncompressedBytes: number;
  readonly compressedBytes: number;
  /** Offsets in the file; null: no dictionary page. */
  readonly dictionaryOffset: number | null;
  readonly dataOffset: number;
  readonly pages: readonly { readonly type: PageType; readonly encoding: Encoding; readonly count: number }[];
  readonly statistics: ChunkStatistics;
}

export interface RowGroupMetadata {
  readonly rowCount: number;
  readonly offset: number;
  readonly chunks: readonly ChunkMetadata[];
}

export interface PageHeader {
  readonly type: PageType;
  readonly uncompressedBytes: number;
  readonly compressedBytes: number;
  /** CRC-32 of the compressed page, as readers that verify pages want it. */
  readonly crc: number;
  readonly valueCount: number;
  readonly encoding: Encoding;
}

export function writePageHeader(sink: ByteSink, header: PageHeader): void {
  const thrift = new ThriftWriter(sink);
  thrift.element(() => {
    thrift.i32(1, header.type);
    thrift.i32(2, header.uncompressedBytes);
    thrift.i32(3, header.compressedBytes);
    thrift.i32(4, header.crc | 0);
    if (header.type === PAGE.dictionary) {
      thrift.struct(7, () => {
        thrift.i32(1, header.valueCount);
        thrift.i32(2, header.encoding);
      });
    } else {
      thrift.struct(5, () => {
        thrift.i32(1, header.valueCount);
        thrift.i32(2, header.encoding);
        thrift.i32(3, ENCODING.rle);
        thrift.i32(4, ENCODING.rle);
      });
    }
  });
}

function writeSchemaNode(thrift: ThriftWriter, node: SchemaNode): void {
  if (node.physical !== undefined) thrift.i32(1, node.physical);
  thrift.i32(3, node.repetition);
  thrift.text(4, node.name);
  if (node.children !== undefined) thrift.i32(5, node.children.length);
  if (node.annotation === undefined) return;
  const { converted, logical } = ANNOTATION[node.annotation];
  thrift.i32(6, converted);
  if (node.scale !== undefined) thrift.i32(7, node.scale);
  if (node.precision !== undefined) thrift.i32(8, node.precision);
  thrift.struct(10, () => {
    thrift.struct(logical, () => {
      if (node.scale !== undefined) thrift.i32(1, node.scale);
      if (node.precision !== undefined) thrift.i32(2, node.precision);
      if (node.annotation !== 'timestampUs') return;
      thrift.boolean(1, true); // isAdjustedToUTC
      thrift.struct(2, () => thrift.struct(2, () => {})); // unit MICROS
    });
  });
}

function flattenSchema(nodes: readonly SchemaNode[]): SchemaNode[] {
  return nodes.flatMap((node) => [node, ...flattenSchema(node.children ?? [])]);
}

function writeStatistics(thrift: ThriftWriter, { nullCount, bounds }: ChunkStatistics): void {
  thrift.i64(3, nullCount);
  if (bounds === null) return;
  thrift.binary(5, bounds.max);
  thrift.binary(6, bounds.min);
  thrift.boolean(7, true);
  thrift.boolean(8, true);
}

function writeChunk(thrift: ThriftWriter, chunk: ChunkMetadata): void {
  thrift.i64(2, chunk.dictionaryOffset ?? chunk.dataOffset);
  thrift.struct(3, () => {
    thrift.i32(1, chunk.leaf.physical);
    thrift.i32List(2, [...new Set<number>([...chunk.pages.map((page) => page.encoding), ENCODING.rle])]);
    thrift.textList(3, chunk.leaf.path);
    thrift.i32(4, chunk.codec);
    thrift.i64(5, chunk.levelCount);
    thrift.i64(6, chunk.uncompressedBytes);
    thrift.i64(7, chunk.compressedBytes);
    thrift.i64(9, chunk.dataOffset);
    if (chunk.dictionaryOffset !== null) thrift.i64(11, chunk.dictionaryOffset);
    thrift.struct(12, () => writeStatistics(thrift, chunk.statistics));
    thrift.structList(13, chunk.pages, (page) => {
      thrift.i32(1, page.type);
      thrift.i32(2, page.encoding);
      thrift.i32(3, page.count);
    });
  });
}

/** The footer with its length and the closing magic. */
export function encodeFooter(nodes: readonly SchemaNode[], rowCount: number, groups: readonly RowGroupMetadata[]): Uint8Array<ArrayBuffer> {
  const sink = new ByteSink(4096);
  const thrift = new ThriftWriter(sink);
  const flat = flattenSchema(nodes);
  thrift.element(() => {
    thrift.i32(1, 1);
    thrift.structList<SchemaNode | null>(2, [null, ...flat], (node) => {
      if (node !== null) {
        writeSchemaNode(thrift, node);
      } else {
        thrift.text(4, 'schema');
        thrift.i32(5, nodes.length);
      }
    });
    thrift.i64(3, rowCount);
    thrift.structList(4, groups, (group, ordinal) => {
      thrift.structList(1, group.chunks, (chunk) => writeChunk(thrift, chunk));
      thrift.i64(2, sum(group.chunks.map((chunk) => chunk.uncompressedBytes)));
      thrift.i64(3, group.rowCount);
      thrift.i64(5, group.offset);
      thrift.i64(6, sum(group.chunks.map((chunk) => chunk.compressedBytes)));
      if (ordinal < 0x8000) thrift.i16(7, ordinal);
    });
    thrift.text(6, `sluice version ${VERSION} (build 0)`); // the pattern that parquet-java parses
    // Without an order per leaf, readers distrust min_value and max_value.
    thrift.structList(7, schemaLeaves(nodes), () => thrift.struct(1, () => {}));
  });
  const length = sink.length;
  sink.uint32(length);
  sink.raw(MAGIC);
  return sink.take();
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
