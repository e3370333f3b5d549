import * as fc from 'fast-check';
import { Packr, pack } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { isSluiceError } from './errors.ts';
import { decodeGatewayMessage, decodeHubMessage, encodeGatewayMessage, encodeHubMessage, UPLINK_FRAME_BYTES_MAX } from './uplink-codec.ts';
import type { BatchMessage, GatewayMessage, Hello, Heartbeat, HubMessage, Position } from './uplink.ts';

const EPOCH = '0123456789abcdef0123456789abcdef';
const plain = new Packr({ useRecords: false, variableMapSize: true });

const backlog = { readings: 5, bytes: 1000, exceptions: 0, oldestUs: null };
const hello: Hello = {
  type: 'hello',
  gatewayVersion: '0.1.0',
  wireVersions: [1],
  lakeId: null,
  epoch: EPOCH,
  lane: 'live',
  lanes: [{ epoch: EPOCH, lane: 'live', base: 1, assigned: 0 }],
  backlog,
  clock: { state: 'known', wallUs: 1_785_000_000_123_456 },
};
const heartbeat: Heartbeat = {
  type: 'heartbeat',
  watermark: { us: 1_785_000_000_000_001, positions: [{ epoch: EPOCH, lane: 'live', seq: 7 }] },
  backlog: { ...backlog, oldestUs: 1_785_000_000_000_000 },
  clock: { state: 'unknown', wallUs: 0 },
};
const position: Position = {
  type: 'position',
  hubInstance: EPOCH,
  epoch: EPOCH,
  lane: 'backfill',
  generation: 0,
  received: 12,
  committed: 10,
  status: 'open',
  rewind: false,
  admission: { inFlightBytesMax: 4_194_304, backfillBytesPerSecond: 0 },
};

function batch(body: Uint8Array): BatchMessage {
  return { type: 'batch', seq: 4_294_967_300, generation: 2, readingCount: 20_000, exceptionCount: 1, body };
}

function refusal(frame: Uint8Array): boolean {
  try {
    decodeGatewayMessage(frame);
    return false;
  } catch (error) {
    if (isSluiceError(error, 'ERR_UPLINK_MESSAGE')) return true;
    throw error;
  }
}

describe('uplink codec', () => {
  test('every kind of message comes back as it was', () => {
    const up: GatewayMessage[] = [hello, heartbeat, { ...heartbeat, watermark: null }];
    for (const message of up) expect(decodeGatewayMessage(encodeGatewayMessage(message))).toEqual(message);
    const down: HubMessage[] = [
      position,
      {
        type: 'welcome',
        hubInstance: EPOCH,
        hubVersion: '1',
        lakeId: 'abc',
        gateway: 'g',
        wireVersions: [1],
        compressions: ['br'],
        wallUs: 1,
        position,
      },
      { type: 'refuse', code: 'bad_message', message: 'ünïcode', retryAfterMs: 0 },
    ];
    for (const message of down) expect(decodeHubMessage(encodeHubMessage(message))).toEqual(message);
  });

  test('a body of any length comes back, as a view of the frame', () => {
    for (const length of [0, 1, 255, 256, 65_535, 65_536, 1_000_000]) {
      const body = new Uint8Array(length).fill(7);
      const frame = encodeGatewayMessage(batch(body));
      const decoded = decodeGatewayMessage(frame) as BatchMessage;
      expect(Buffer.compare(decoded.body, body)).toBe(0);
      expect({ ...decoded, body: null }).toEqual({ ...batch(body), body: null });
      expect(length === 0 || decoded.body.buffer === frame.buffer).toBe(true);
    }
  });

  test('what any MessagePack writer says is understood: a batch encoded by msgpackr alone, unknown keys are ignored', () => {
    const message = { ...batch(Buffer.from([1, 2, 3])), later: { addition: [1] } };
    expect(decodeGatewayMessage(plain.pack(message))).toMatchObject({ type: 'batch', seq: message.seq });
  });

  test('arbitrary bytes give a typed error, never another one', () => {
    const run = fc.check(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => refusal(bytes) && refusal(Uint8Array.from([0x82, ...bytes]))),
      { numRuns: 2000 },
    );
    expect(run.counterexample).toBeNull();
  });

  test('every cut and every changed byte of a message gives a message or a typed error', () => {
    const frame = encodeGatewayMessage(heartbeat);
    for (let length = 0; length < frame.length; length++) expect(refusal(frame.subarray(0, length))).toBe(true);
    for (let at = 0; at < frame.length; at++) {
      for (const value of [0x00, 0x7f, 0x80, 0x8f, 0xc1, 0xc7, 0xd4, 0xdd, 0xdf, 0xff]) {
        const changed = Uint8Array.from(frame);
        changed[at] = value;
        refusal(changed);
      }
    }
    expect(refusal(Buffer.concat([frame, Buffer.from([0xc0])]))).toBe(true);
  });

  test('extensions, records, deep nesting, huge declared lengths and other top-level values are refused before msgpackr sees them', () => {
    expect(refusal(pack({ type: 'hello', at: new Date() }))).toBe(true);
    expect(refusal(Buffer.from('82a474797065d47200a16101', 'hex'))).toBe(true);
    expect(refusal(Buffer.from('81a474797065ddffffffff', 'hex'))).toBe(true);
    expect(refusal(Buffer.from('dfffffffff', 'hex'))).toBe(true);
    expect(refusal(Buffer.from('81a474797065c6ffffffff00', 'hex'))).toBe(true);
    expect(refusal(Buffer.concat([Buffer.from([0x81, 0xa1, 0x61]), Buffer.alloc(100_000, 0x91), Buffer.from([0xc0])]))).toBe(true);
    expect(refusal(Buffer.from([0x93, 1, 2, 3]))).toBe(true);
    expect(refusal(new Uint8Array(0))).toBe(true);
    expect(refusal(Buffer.alloc(UPLINK_FRAME_BYTES_MAX + 1, 0x80))).toBe(true);
    const manyItems = Buffer.concat([Buffer.from([0x81, 0xa1, 0x61, 0xdd, 0, 0, 0xff, 0xff]), Buffer.alloc(65_535, 0xc0)]);
    expect(refusal(manyItems)).toBe(true);
  });

  test('a key named __proto__ reaches no prototype', () => {
    const frame = Buffer.concat([
      Buffer.from([0x82]),
      plain.pack('__proto__'),
      plain.pack({ polluted: 1 }),
      plain.pack('type'),
      plain.pack('hello'),
    ]);
    expect(refusal(frame)).toBe(true);
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });

  test('wrong types, negative and unsafe numbers are refused', () => {
    for (const wrong of [
      { seq: 0 },
      { seq: 1.5 },
      { seq: 2 ** 60 },
      { seq: '1' },
      { generation: -1 },
      { body: 'text' },
      { body: null },
      { readingCount: NaN },
    ]) {
      expect(refusal(plain.pack({ ...batch(Buffer.from([1])), ...wrong }))).toBe(true);
    }
    const many = Array.from({ length: 1025 }, () => ({ epoch: EPOCH, lane: 'live', base: 1, assigned: 0 }));
    expect(refusal(plain.pack({ ...hello, lanes: many }))).toBe(true);
  });
});
