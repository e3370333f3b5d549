import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PacketGuard } from './packet-guard.ts';

function packet(length: number): Buffer {
  const header = [0x30];
  let rest = length;
  do {
    header.push((rest & 127) | (rest > 127 ? 128 : 0));
    rest >>= 7;
  } while (rest > 0);
  return Buffer.concat([Buffer.from(header), Buffer.alloc(length, 0xff)]);
}

test('packets within the limit pass however they are cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
      (lengths, cuts) => {
        const bytes = Buffer.concat(lengths.map(packet));
        const guard = new PacketGuard(300);
        let at = 0;
        for (let index = 0; at < bytes.length; index++) {
          const next = at + (cuts[index % cuts.length] ?? 1);
          expect(guard.scan(bytes.subarray(at, next))).toBeNull();
          at = next;
        }
      },
    ),
  );
});

test('a packet above the limit is refused at its header, wherever it stands', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 5 }),
      fc.integer({ min: 301, max: 200_000_000 }),
      (lengths, announced) => {
        const header = packet(0);
        const guard = new PacketGuard(300);
        for (const length of lengths) guard.scan(packet(length));
        const bytes = [header[0]];
        for (let rest = announced; rest > 0; rest >>= 7) bytes.push((rest & 127) | (rest > 127 ? 128 : 0));
        expect(guard.scan(Buffer.from(bytes))).toMatchObject({ code: 'ERR_BROKER_PACKET_TOO_LARGE' });
      },
    ),
  );
});

test('a length of five bytes is malformed', () => {
  expect(new PacketGuard(1 << 30).scan(Buffer.from([0x10, 0x80, 0x80, 0x80, 0x80, 0x01]))).toMatchObject({ code: 'ERR_BROKER_MALFORMED' });
});
