/** Malformed input for every entrance, from a seed: good captures with bytes changed, cut or doubled, and plain noise. */
import { Packr } from 'msgpackr';
import { BAD_PAYLOADS } from '../e2e/bad-payloads.ts';
import { PACKETS_BEFORE_CONNECT, PACKETS_IN_SESSION } from '../e2e/bad-packets.ts';
import { mqttConnect, mqttPublish } from '../e2e/raw-clients.ts';
import type { SeededRandom } from './random.ts';

const NOISE_BYTES_MAX = 2_000;

/** Good payloads of devices that are not of the fleet. */
const GOOD_PAYLOADS: readonly Uint8Array[] = [
  Buffer.from('{"poison":1.5,"ts":1790000000000}'),
  Buffer.from('[{"ts":1790000000000,"values":{"poison":1,"text":"a"}},{"poison":true}]'),
  Buffer.from('[{"bn":"urn:dev:1:","bt":1790000000,"n":"poison","u":"Cel","v":23.1}]'),
  Buffer.from('poison,host=a,tag=b field=1i,other="x y" 1790000000000000000'),
  new Packr({ useRecords: false }).pack({ poison: [1, 2, { a: null }], ts: 1_790_000_000_000 }),
];
const TOPICS = [
  'devices/poison/telemetry',
  'devices/poison/level',
  'senml/poison',
  'influx/poison',
  'msgpack/poison',
  'a/b/c',
  '$SYS/x',
  '/',
  'devices//telemetry',
  `devices/${'p'.repeat(300)}/x`,
];

export function noise(random: SeededRandom): Buffer {
  return Buffer.alloc(1 + random.index(NOISE_BYTES_MAX)).map(() => random.index(256)) as Buffer;
}

export function mutated(good: Uint8Array, random: SeededRandom): Buffer {
  const bytes = Buffer.from(good);
  const at = random.index(bytes.length);
  switch (random.index(5)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      return Buffer.concat([bytes, bytes.subarray(at)]);
    case 2:
      return Buffer.concat([bytes.subarray(0, at), noise(random), bytes.subarray(at)]);
    case 3:
      bytes.fill(random.index(256), at, Math.min(bytes.length, at + 1 + random.index(8)));
      return bytes;
    default:
      for (let flips = 1 + random.index(5); flips > 0; flips--) {
        const place = random.index(bytes.length);
        bytes[place] = (bytes[place] ?? 0) ^ (1 << random.index(8));
      }
      return bytes;
  }
}

export function poisonPayload(random: SeededRandom): { topic: string; payload: Uint8Array } {
  if (random.next() < 0.4) {
    const { topic, payload } = random.pick(BAD_PAYLOADS);
    return { topic, payload: Buffer.from(payload as string) };
  }
  return { topic: random.pick(TOPICS), payload: mutated(random.pick(GOOD_PAYLOADS), random) };
}

/** What is said on one MQTT connection. */
export function poisonSession(random: SeededRandom): Buffer {
  const name = `poison-${random.index(1_000)}`;
  const { topic, payload } = poisonPayload(random);
  switch (random.index(5)) {
    case 0:
      return noise(random);
    case 1:
      return Buffer.from(random.pick([...PACKETS_BEFORE_CONNECT, ...PACKETS_IN_SESSION]).bytes);
    case 2:
      return Buffer.concat([mqttConnect(name), noise(random)]);
    case 3:
      return mutated(Buffer.concat([mqttConnect(name), mqttPublish(topic, payload)]), random);
    default:
      return Buffer.concat([mqttConnect(name), mqttPublish(topic, payload)]);
  }
}
