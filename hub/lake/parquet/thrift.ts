/**
 * The part of Thrift's compact protocol that Parquet headers and footers use, written only.
 *
 * Source: thrift-compact-protocol.md. Fields of a struct go up in their ids; every struct is closed by `end`.
 */
import type { ByteSink } from './byte-sink.ts';

const TYPE_TRUE = 1;
const TYPE_FALSE = 2;
const TYPE_I16 = 4;
const TYPE_I32 = 5;
const TYPE_I64 = 6;
const TYPE_BINARY = 8;
const TYPE_LIST = 9;
const TYPE_STRUCT = 12;

export class ThriftWriter {
  readonly sink: ByteSink;
  #lastId = 0;
  readonly #outer: number[] = [];

  constructor(sink: ByteSink) {
    this.sink = sink;
  }

  boolean(id: number, value: boolean): void {
    this.#field(id, value ? TYPE_TRUE : TYPE_FALSE);
  }

  i16(id: number, value: number): void {
    this.#field(id, TYPE_I16);
    this.sink.zigzag(value);
  }

  i32(id: number, value: number): void {
    this.#field(id, TYPE_I32);
    this.sink.zigzag(value);
  }

  i64(id: number, value: number): void {
    this.#field(id, TYPE_I64);
    this.sink.zigzag(value);
  }

  binary(id: number, bytes: Uint8Array): void {
    this.#field(id, TYPE_BINARY);
    this.#bytes(bytes);
  }

  text(id: number, text: string): void {
    this.binary(id, Buffer.from(text, 'utf8'));
  }

  struct(id: number, fill: () => void): void {
    this.#field(id, TYPE_STRUCT);
    this.element(fill);
  }

  i32List(id: number, values: readonly number[]): void {
    this.#list(id, TYPE_I32, values.length);
    for (const value of values) this.sink.zigzag(value);
  }

  textList(id: number, values: readonly string[]): void {
    this.#list(id, TYPE_BINARY, values.length);
    for (const value of values) this.#bytes(Buffer.from(value, 'utf8'));
  }

  structList<T>(id: number, items: readonly T[], fill: (item: T, index: number) => void): void {
    this.#list(id, TYPE_STRUCT, items.length);
    items.forEach((item, index) => this.element(() => fill(item, index)));
  }

  /** A struct without a field header: the outermost one, or an item of a list. */
  element(fill: () => void): void {
    this.#outer.push(this.#lastId);
    this.#lastId = 0;
    fill();
    this.sink.byte(0);
    this.#lastId = this.#outer.pop() as number;
  }

  #list(id: number, type: number, length: number): void {
    this.#field(id, TYPE_LIST);
    if (length < 15) {
      this.sink.byte((length << 4) | type);
    } else {
      this.sink.byte(0xf0 | type);
      this.sink.varint(length);
    }
  }

  #bytes(bytes: Uint8Array): void {
    this.sink.varint(bytes.length);
    this.sink.raw(bytes);
  }

  #field(id: number, type: number): void {
    const step = id - this.#lastId;
    if (step >= 1 && step <= 15) {
      this.sink.byte((step << 4) | type);
    } else {
      this.sink.byte(type);
      this.sink.zigzag(id);
    }
    this.#lastId = id;
  }
}
