import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isSluiceError } from '../../shared/errors.ts';
import { unsnappy } from './snappy.ts';

type Element = { readonly literal: Uint8Array } | { readonly copy: number; readonly offset: number; readonly offsetBytes: 1 | 2 | 4 };

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
}

function littleEndian(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, index) => Math.floor(value / 256 ** index) % 256);
}

/** Elements as a compressor writes them, and the bytes that they stand for. */
function written(elements: readonly Element[]): { compressed: Buffer; plain: Buffer } {
  const plain: number[] = [];
  const body: number[] = [];
  for (const element of elements) {
    if ('literal' in element) {
      const { literal } = element;
      if (literal.length === 0) continue;
      const rest = literal.length - 1;
      if (rest < 60) body.push(rest << 2);
      else {
        const lengthBytes = rest < 256 ? 1 : rest < 65_536 ? 2 : 3;
        body.push((59 + lengthBytes) << 2, ...littleEndian(rest, lengthBytes));
      }
      body.push(...literal);
      plain.push(...literal);
      continue;
    }
    if (plain.length === 0) continue;
    const offset = (element.offset % Math.min(plain.length, element.offsetBytes === 1 ? 2_047 : 65_535)) + 1;
    const length = element.offsetBytes === 1 ? (element.copy % 8) + 4 : (element.copy % 64) + 1;
    if (offset > plain.length) continue;
    if (element.offsetBytes === 1) body.push(1 | ((length - 4) << 2) | ((offset >> 8) << 5), offset & 255);
    else body.push((element.offsetBytes === 2 ? 2 : 3) | ((length - 1) << 2), ...littleEndian(offset, element.offsetBytes));
    for (let index = 0; index < length; index++) plain.push(plain[plain.length - offset]);
  }
  return { compressed: Buffer.from([...varint(plain.length), ...body]), plain: Buffer.from(plain) };
}

const element: fc.Arbitrary<Element> = fc.oneof(
  fc.record({ literal: fc.uint8Array({ maxLength: 400 }) }),
  fc.record({ copy: fc.nat(), offset: fc.nat(), offsetBytes: fc.constantFrom<1 | 2 | 4>(1, 2, 4) }),
);

test('every kind of element is read, copies that overlap themselves included', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(element, { maxLength: 40 }), async (elements) => {
      const { compressed, plain } = written(elements);
      if (plain.length <= compressed.length * 21) expect((await unsnappy(compressed, 1e6)).equals(plain)).toBe(true);
    }),
  );
});

test('bytes that are not snappy are an error with a code, never more than that', async () => {
  const valid = written([{ literal: Buffer.from('a text to be repeated') }, { copy: 40, offset: 6, offsetBytes: 2 }]).compressed;
  const at = fc.record({ at: fc.nat(valid.length - 1), byte: fc.nat(255), end: fc.nat(valid.length) });
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 64 }), at), async (damage) => {
      const bytes = damage instanceof Uint8Array ? Buffer.from(damage) : Buffer.from(valid.subarray(0, damage.end));
      if (!(damage instanceof Uint8Array) && damage.at < bytes.length) bytes[damage.at] = damage.byte;
      const error: unknown = await unsnappy(bytes, 1e6).then(
        () => null,
        (thrown: unknown) => thrown,
      );
      if (error !== null) expect(isSluiceError(error, 'ERR_HTTP_PARAMETER') || isSluiceError(error, 'ERR_HTTP_BODY_TOO_LARGE')).toBe(true);
    }),
  );
  for (const [bytes, code] of [
    [[4, 0x0c, 97, 98, 99], 'ERR_HTTP_PARAMETER'], // ends inside of a literal
    [[5, 0x0c, 97, 98, 99, 100], 'ERR_HTTP_PARAMETER'], // less than announced
    [[3, 0x0c, 97, 98, 99, 100], 'ERR_HTTP_PARAMETER'], // more than announced
    [[8, 0x0c, 97, 98, 99, 100, 0x01, 9], 'ERR_HTTP_PARAMETER'], // a copy from before the start
    [[...varint(2_000_000), 0], 'ERR_HTTP_BODY_TOO_LARGE'],
  ] as const)
    await expect(unsnappy(Buffer.from(bytes), 1e6), String(bytes)).rejects.toMatchObject({ code });
});

test('a large body gives way to others each megabyte', async () => {
  const text = Buffer.alloc(60, 'sixty bytes');
  const plain = Buffer.alloc(50_000 * text.length, text);
  const literal = Buffer.from([(text.length - 1) << 2, ...text]);
  const compressed = Buffer.concat([Buffer.from(varint(plain.length)), Buffer.alloc(50_000 * literal.length, literal)]);
  let turns = 0;
  const body = await unsnappy(compressed, 1e7, () => Promise.resolve(void turns++));
  expect(body.equals(plain)).toBe(true);
  expect(turns).toBe(Math.ceil(plain.length / 1_048_576) - 1);
});
