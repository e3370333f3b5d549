import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EventStreamParser } from './event-stream.ts';

const STREAM =
  'retry: 2000\n\nevent: window\nid: 7\ndata: {"a":1}\n\n: heartbeat\n\ndata: x\r\ndata:  y\r\n\r\nevent: gateways\rdata: {}\r\r\nevent: none\n\n';
const EVENTS = [
  { name: 'window', data: '{"a":1}', id: '7' },
  { name: 'message', data: 'x\n y', id: '7' },
  { name: 'gateways', data: '{}', id: '7' },
];

test('events come out whole, however the bytes are cut', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(STREAM.length), { maxLength: 30 }), (places) => {
      const cuts = [0, ...places.sort((a, b) => a - b), STREAM.length];
      const parser = new EventStreamParser();
      const events = cuts.slice(1).flatMap((to, index) => parser.push(STREAM.slice(cuts[index], to)));
      expect(events).toEqual(EVENTS);
    }),
  );
});

test('an event that never ends is refused before it fills the memory', () => {
  const parser = new EventStreamParser();
  const megabyte = `data: ${'x'.repeat(1_000_000)}\n`;
  expect(() => {
    for (let count = 0; count < 100; count++) parser.push(megabyte);
  }).toThrow(/more than 8000000 characters/);
  const line = new EventStreamParser();
  expect(() => line.push('x'.repeat(9_000_000))).toThrow(/more than/);
});
