/** Must show 7 at the uplink: whatever a gateway that went wrong, or a stranger, says to the hub, the answer is typed and others go on. */
import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { encodeBatch } from '../../shared/batch/encode.ts';
import { decodeHubMessage, encodeGatewayMessage } from '../../shared/uplink-codec.ts';
import { UPLINK_SUBPROTOCOL, type GatewayMessage, type HubMessage } from '../../shared/uplink.ts';
import { contentOf, resealed } from './bad-batches.ts';
import { fetchJson, Lab, until } from './processes.ts';
import { webSocketExchange } from './raw-clients.ts';

const SEED = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);

interface UplinkOptions {
  readonly headers?: Record<string, string>;
  readonly protocols?: string[];
  readonly path?: string;
  /** Sent after the welcome. */
  readonly batches?: readonly Uint8Array[];
  readonly until?: (messages: readonly HubMessage[]) => boolean;
}

let lab: Lab;
let hub: Awaited<ReturnType<Lab['hub']>>;
let token: string;
let lakeId: string;
beforeAll(async () => {
  console.log(`seed ${SEED}`);
  lab = new Lab();
  hub = await lab.hub();
  token = readFileSync(await lab.gatewayToken('hostile'), 'utf8').trim();
  lakeId = (await fetchJson<{ lake_id: string }>(`${hub.url}/readyz`)).lake_id;
  // Running hubs notice a new token within seconds.
  await until('the token to be known', async () => ((await uplink([])).refused === null ? true : null));
}, 60_000);
afterAll(() => lab.close());
afterEach(async () => {
  expect((await fetch(`${hub.url}/healthz`)).status).toBe(200);
});

const readingsOf = async (device: string): Promise<number> =>
  (await fetchJson<{ rows: readonly unknown[] }>(`${hub.url}/v1/readings?device=${device}`)).rows.length;

const uplink = (frames: readonly (Uint8Array | string)[], options: UplinkOptions = {}) =>
  webSocketExchange(`ws://127.0.0.1:${hub.port}${options.path ?? '/v1/uplink'}`, {
    protocols: options.protocols ?? [UPLINK_SUBPROTOCOL],
    headers: options.headers ?? { authorization: `Bearer ${token}` },
    frames,
    framesAfterAnswer: options.batches ?? [],
    timeoutMs: frames.length === 0 ? 100 : 5_000,
    until: (messages) => options.until?.(messages.map(decodeHubMessage)) === true,
  });

const zeros = { readings: 0, bytes: 0, exceptions: 0, oldestUs: null };
const hello = (epoch: string, more: Partial<Extract<GatewayMessage, { type: 'hello' }>> = {}): Uint8Array =>
  encodeGatewayMessage({
    type: 'hello',
    gatewayVersion: '0',
    wireVersions: [1],
    lakeId,
    epoch,
    lane: 'live',
    lanes: [{ epoch, lane: 'live', base: 1, assigned: 100 }],
    backlog: zeros,
    clock: { state: 'known', wallUs: Date.now() * 1000 },
    ...more,
  });
const batch = (seq: number, body: Uint8Array, readingCount = 1): Uint8Array =>
  encodeGatewayMessage({ type: 'batch', seq, generation: 0, readingCount, exceptionCount: 0, body });
const goodBatch = (device: string): Uint8Array => encodeBatch(contentOf(device, [Date.now() * 1000]), 'br');
const epochOf = (digit: string): string => digit.repeat(32);
const committed = (seq: number) => (messages: readonly HubMessage[]) =>
  messages.some((message) => message.type === 'position' && message.committed >= seq);

test('who is not a gateway gets a problem instead of a connection', async () => {
  const tries: { options: UplinkOptions; status: number; code: string }[] = [
    { options: { headers: {} }, status: 401, code: 'ERR_HTTP_UNAUTHORIZED' },
    { options: { headers: { authorization: 'Bearer wrong' } }, status: 401, code: 'ERR_HTTP_UNAUTHORIZED' },
    { options: { headers: { authorization: `Basic ${btoa(`hostile:${token}`)}` } }, status: 401, code: 'ERR_HTTP_UNAUTHORIZED' },
    { options: { headers: { authorization: `Bearer ${token}${'x'.repeat(5_000)}` } }, status: 401, code: 'ERR_HTTP_UNAUTHORIZED' },
    { options: { protocols: ['mqtt'] }, status: 400, code: 'ERR_HTTP_PARAMETER' },
    { options: { path: '/v1/readings' }, status: 404, code: 'ERR_HTTP_NOT_FOUND' },
  ];
  for (const { options, status, code } of tries) {
    const { refused } = await uplink([hello(epochOf('0'))], options);
    expect(refused?.status, JSON.stringify(options).slice(0, 100)).toBe(status);
    expect((JSON.parse(refused?.body ?? '{}') as { code: string }).code).toBe(code);
  }
});

test('a frame that is no message, or comes out of turn, is refused by name', { timeout: 40_000 }, async () => {
  const first = hello(epochOf('1'));
  const conversations: { name: string; frames: (Uint8Array | string)[]; code: string }[] = [
    { name: 'a text frame', frames: ['{"type":"hello"}'], code: 'bad_message' },
    { name: 'an empty frame', frames: [new Uint8Array(0)], code: 'bad_message' },
    { name: 'an array that announces 4 GiB', frames: [Uint8Array.of(0xdd, 255, 255, 255, 255)], code: 'bad_message' },
    { name: '100,000 nested arrays', frames: [new Uint8Array(100_000).fill(0x91)], code: 'bad_message' },
    { name: 'a hello cut short', frames: [first.subarray(0, 50)], code: 'bad_message' },
    { name: 'a hello with bytes behind it', frames: [Buffer.concat([first, Uint8Array.of(1)])], code: 'bad_message' },
    { name: 'a batch before the hello', frames: [batch(1, goodBatch('early'))], code: 'bad_message' },
    { name: 'a second hello', frames: [first, first], code: 'bad_message' },
    { name: 'another lake', frames: [hello(epochOf('1'), { lakeId: 'another' })], code: 'wrong_lake' },
    { name: 'a lane that it does not claim', frames: [hello(epochOf('1'), { lanes: [] })], code: 'bad_message' },
    { name: 'an epoch of other letters', frames: [hello('../../../../etc/passwd-----------')], code: 'bad_message' },
    ...fc
      .sample(fc.uint8Array({ minLength: 1, maxLength: 200 }), { seed: SEED, numRuns: 30 })
      .map((bytes) => ({ name: `random bytes ${Buffer.from(bytes).toString('hex')}`, frames: [bytes], code: 'bad_message' })),
  ];
  for (const { name, frames, code } of conversations) {
    const { messages, closeCode } = await uplink(frames);
    const last = messages.map(decodeHubMessage).at(-1);
    expect({ name, type: last?.type, code: last?.type === 'refuse' ? last.code : null, closeCode }).toEqual({
      name,
      type: 'refuse',
      code,
      closeCode: 1008,
    });
  }
  const giant = await uplink([new Uint8Array(9 * 1024 * 1024)]);
  expect(giant.closeCode, 'a frame of 9 MiB').toBe(1009);
});

test('a damaged batch is refused, sent again it is taken', async () => {
  const body = goodBatch('resent');
  const damaged = Uint8Array.from(body);
  damaged[20] = (damaged[20] ?? 0) ^ 1;
  const refused = await uplink([hello(epochOf('2'))], {
    batches: [batch(1, damaged)],
    until: (messages) => messages.some(({ type }) => type === 'refuse'),
  });
  expect(refused.messages.map(decodeHubMessage).at(-1)).toMatchObject({ type: 'refuse', code: 'bad_message' });
  const taken = await uplink([hello(epochOf('2'))], { batches: [batch(1, body)], until: committed(1) });
  expect(taken.closeCode).toBe(null);
  expect(await readingsOf('resent')).toBe(1);
});

test('a batch of a newer wire version makes its lane wait, and only its lane', async () => {
  const newer = Uint8Array.from(goodBatch('newer'));
  newer[3] = 99;
  const answer = await uplink([hello(epochOf('3'))], {
    batches: [batch(1, resealed(newer))],
    until: (messages) => messages.some((message) => message.type === 'position' && message.status === 'upgrade_hub'),
  });
  expect(answer.closeCode).toBe(null);
});

test('a batch that nobody can ever apply becomes an exception, and the lane goes on', async () => {
  const broken = goodBatch('broken');
  const content = encodeBatch(contentOf('broken', [Date.now() * 1000]), 'none');
  const at = Buffer.from(content).indexOf('broken');
  content[at] = 0xff; // not UTF-8 in the series table, under a right checksum
  const answer = await uplink([hello(epochOf('4'))], { batches: [batch(1, resealed(content)), batch(2, broken)], until: committed(2) });
  expect(answer.closeCode).toBe(null);
  const { rows } = await fetchJson<{ rows: readonly { kind: string; reason: string }[] }>(`${hub.url}/v1/exceptions`);
  expect(rows).toMatchObject([
    { kind: 'dead_letter', reason: expect.stringMatching(/^batch_not_applicable: ERR_BATCH_MALFORMED/) as string },
  ]);
  expect(await readingsOf('broken')).toBe(1);
});

test('batches out of their order are asked for again, not taken', async () => {
  const answer = await uplink([hello(epochOf('5'))], {
    batches: [batch(7, goodBatch('hole'))],
    until: (messages) => messages.some((message) => message.type === 'position' && message.rewind),
  });
  expect(answer.closeCode).toBe(null);
  expect(await readingsOf('hole')).toBe(0);
});
