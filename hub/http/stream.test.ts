import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { ApiFixture, problemOf } from './app.fixture.ts';
import { formatTime } from './times.ts';

const SECOND_US = 1_000_000;
const MINUTE_US = 60 * SECOND_US;

let api: ApiFixture;
/** A full minute, and so late that the windows of the test before are out of sight. */
let nowUs: number;
beforeAll(async () => {
  api = await ApiFixture.start();
});
beforeEach(() => {
  api.ready = true;
  api.failQueries = false;
  api.clock.advance(11 * MINUTE_US - (api.clock.nowUs() % MINUTE_US));
  nowUs = api.clock.nowUs();
});
afterAll(() => api.stop());

interface WindowEvent {
  readonly window: string;
  readonly truncated: boolean;
  readonly rows: readonly { readonly window_start: string; readonly device: string; readonly count: number; readonly status: string }[];
}

/** The events of one stream, read as a client does. */
class Events {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly comments: string[] = [];
  #queue: EventSourceMessage[] = [];
  #parser = createParser({ onEvent: (event) => this.#queue.push(event), onComment: (comment) => this.comments.push(comment) });
  #decoder = new TextDecoder();

  constructor(response: Response) {
    this.#reader = (response.body as ReadableStream<Uint8Array>).getReader();
  }

  /** Of the last event that had one. */
  lastId = '';

  static async open(path: string, lastId?: string): Promise<Events> {
    const response = await api.get(path, lastId === undefined ? {} : { 'last-event-id': lastId });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    return new Events(response);
  }

  /** The next event of the name; others are passed over. null: the stream has ended. */
  async next(name: string): Promise<unknown> {
    for (;;) {
      const event = this.#queue.shift();
      this.lastId = event?.id ?? this.lastId;
      if (event?.event === name) return JSON.parse(event.data) as unknown;
      if (event === undefined && !(await this.#read())) return null;
    }
  }

  async nextComment(): Promise<string | undefined> {
    while (this.comments.length === 0 && (await this.#read()));
    return this.comments.shift();
  }

  async #read(): Promise<boolean> {
    const { value, done } = await this.#reader.read();
    if (!done) this.#parser.feed(this.#decoder.decode(value, { stream: true }));
    return !done;
  }

  close(): Promise<void> {
    return this.#reader.cancel();
  }
}

/** Lets rounds happen until the promise is there: a round is a second of the API's clock and some real milliseconds. */
async function withRounds<T>(wanted: Promise<T>, stepUs = SECOND_US): Promise<T> {
  const state = { done: false };
  void wanted.finally(() => (state.done = true)).catch(() => undefined);
  while (!state.done) {
    api.clock.advance(stepUs);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return wanted;
}

test('begins with the state, then sends the windows that changed and no others', async () => {
  await api.commit('gw-1', nowUs - 15 * SECOND_US, 5, 0);
  const events = await Events.open('/v1/stream?window=10s&metric=temperature');
  expect(await events.next('window')).toMatchObject({
    window: '10s',
    truncated: false,
    rows: [{ gateway: 'gw-1', device: 'pump-1', count: 5, status: 'provisional' }],
  });
  expect(await events.next('gateways')).toMatchObject({ hub: { uplinks_paused: false }, truncated: false });
  await api.submit('gw-1', nowUs - 5 * SECOND_US, 3, 7);
  const changed = (await withRounds(events.next('window'))) as WindowEvent;
  expect(changed.rows).toMatchObject([{ window_start: formatTime(nowUs - 10 * SECOND_US), count: 3 }]);
  await events.close();
});

test('says that a gateway came, without windows having changed', async () => {
  const events = await Events.open('/v1/stream');
  expect(await events.next('window')).toMatchObject({ window: '10s', rows: [] });
  await events.next('gateways');
  const heartbeat = {
    type: 'heartbeat',
    watermark: null,
    backlog: { readings: 1, bytes: 10, exceptions: 0, oldestUs: null },
    clock: { state: 'unknown', wallUs: 0 },
  } as const;
  api.gateways.heartbeat('gw-7', heartbeat, api.clock.nowUs());
  expect(await withRounds(events.next('gateways'))).toMatchObject({
    rows: expect.arrayContaining([expect.objectContaining({ gateway: 'gw-7', clock: { state: 'unknown', offset_seconds: null } })]),
  });
  await events.close();
});

test('who comes back with the last id gets the windows that it missed, whoever else listened meanwhile', async () => {
  const events = await Events.open('/v1/stream?window=10s');
  await events.next('window');
  const { lastId } = events;
  expect(Number(lastId)).toBe(nowUs);
  await events.close();
  await api.commit('gw-1', nowUs + 15 * SECOND_US, 5, 0);
  api.clock.advance(5 * MINUTE_US);
  const fresh = await Events.open('/v1/stream?window=10s');
  expect(await fresh.next('window')).toMatchObject({ rows: [] });
  for (const id of [lastId, String(nowUs - 50 * MINUTE_US)]) {
    const resumed = await Events.open('/v1/stream?window=10s', id);
    const { rows } = (await resumed.next('window')) as WindowEvent;
    expect(rows.map((row) => row.window_start)).toContain(formatTime(nowUs + 10 * SECOND_US));
    expect(Number(resumed.lastId)).toBe(nowUs + 5 * MINUTE_US);
    await resumed.close();
  }
  // Away for too long, in the future, not an id of ours: as a first visitor.
  for (const id of [String(nowUs - 90 * MINUTE_US), String(nowUs + 90 * MINUTE_US), 'x7', '']) {
    const anew = await Events.open('/v1/stream?window=10s', id);
    expect(await anew.next('window'), id).toMatchObject({ rows: [] });
    await anew.close();
  }
  await fresh.close();
});

test('an event of gateways says when it was, and the time alone makes no event', async () => {
  const events = await Events.open('/v1/stream?metric=nothing');
  await events.next('window');
  expect(await events.next('gateways')).toMatchObject({ time: formatTime(nowUs), truncated: false });
  await events.close();
});

test('has no window that the filter excludes', async () => {
  await api.commit('gw-1', nowUs - 15 * SECOND_US, 5, 0);
  const events = await Events.open('/v1/stream?window=10s&device=other');
  expect(await events.next('window')).toMatchObject({ rows: [] });
  await events.close();
});

test('who reads slowly gets one event with the newest state, not all that was missed', async () => {
  const events = await Events.open('/v1/stream?window=1m');
  await events.next('gateways');
  for (let batch = 0; batch < 5; batch++) {
    await api.commit('gw-1', nowUs - 30 * SECOND_US + batch * SECOND_US, 1, batch);
    // Nobody reads: what is not taken stays with the feed.
    api.clock.advance(SECOND_US);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const counts: number[] = [];
  while (counts.at(-1) !== 5) {
    const event = (await withRounds(events.next('window'))) as WindowEvent;
    counts.push(...event.rows.map(({ count }) => count));
  }
  // One chunk may wait in the stream, one is made when it is taken.
  expect(counts.length).toBeLessThanOrEqual(3);
  await events.close();
});

test('a quiet stream has a heartbeat, and ends after ten minutes', async () => {
  const events = await Events.open('/v1/stream?metric=nothing');
  await events.next('window');
  await events.next('gateways');
  expect((await withRounds(events.nextComment(), 5 * SECOND_US))?.trim()).toBe('heartbeat');
  expect(await withRounds(events.next('nothing'), 20 * SECOND_US)).toBe(null);
  expect(api.clock.nowUs() - nowUs).toBeGreaterThan(10 * MINUTE_US);
  expect(api.clock.nowUs() - nowUs).toBeLessThan(12 * MINUTE_US);
});

test('ends when the hub stops', async () => {
  const events = await Events.open('/v1/stream');
  await events.next('window');
  api.ready = false;
  expect(await withRounds(events.next('nothing'))).toBe(null);
});

test('windows that cannot be read are a problem event, and the stream goes on', async () => {
  const events = await Events.open('/v1/stream?window=10s');
  await events.next('window');
  api.failQueries = true;
  expect(await withRounds(events.next('problem'))).toMatchObject({ code: 'ERR_QUERY_TIMEOUT' });
  api.failQueries = false;
  await api.commit('gw-1', api.clock.nowUs() - 5 * SECOND_US, 2, 0);
  expect(((await withRounds(events.next('window'))) as WindowEvent).rows.length).toBeGreaterThan(0);
  await events.close();
});

test('different streams and streams in all are bounded, and a closed one makes room', async () => {
  const open: Events[] = [];
  for (let index = 0; index < 16; index++) open.push(await Events.open(`/v1/stream?metric=m${index}`));
  const refused = await api.get('/v1/stream?metric=one-more');
  expect(refused.status).toBe(503);
  expect(refused.headers.get('retry-after')).toBe('1');
  expect((await problemOf(refused)).code).toBe('ERR_HTTP_UNAVAILABLE');
  await open.pop()?.close();
  open.push(await Events.open('/v1/stream?metric=one-more'));
  while (open.length < 64) open.push(await Events.open('/v1/stream?metric=m0'));
  expect((await api.get('/v1/stream?metric=m0')).status).toBe(503);
  expect(await (await api.get('/metrics')).text()).toContain('sluice_hub_http_streams 64');
  await Promise.all(open.map((events) => events.close()));
  expect(await (await api.get('/metrics')).text()).toContain('sluice_hub_http_streams 0');
});

async function listen(): Promise<{ server: Server; port: number }> {
  const listener = getRequestListener(api.app.fetch);
  const server = createServer((incoming, outgoing) => void listener(incoming, outgoing));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, port: (server.address() as AddressInfo).port };
}

test('over a socket: events arrive while the connection is open, and a client that goes away is forgotten', async () => {
  const { server, port } = await listen();
  try {
    await api.commit('gw-1', nowUs - 15 * SECOND_US, 5, 0);
    const abort = new AbortController();
    const response = await fetch(`http://127.0.0.1:${port}/v1/stream?window=10s`, { signal: abort.signal });
    expect(response.headers.get('content-encoding')).toBe(null);
    expect(await new Events(response).next('window')).toMatchObject({ rows: [{ count: 5 }] });
    expect(await (await api.get('/metrics')).text()).toContain('sluice_hub_http_streams 1');
    abort.abort();
    for (;;) {
      if ((await (await api.get('/metrics')).text()).includes('sluice_hub_http_streams 0')) break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test('over a socket: who takes nothing for a minute is cut', async () => {
  const { server, port } = await listen();
  try {
    const socket = connect(port, '127.0.0.1');
    socket.pause();
    socket.on('error', () => undefined);
    socket.write('GET /v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n');
    const name = 'x'.repeat(200);
    const open = { streams: 0 };
    const isOpen = async (): Promise<boolean> => {
      const text = await (await api.get('/metrics')).text();
      open.streams = text.includes('sluice_hub_http_streams 1') ? 1 : 0;
      return open.streams === 1;
    };
    while (!(await isOpen())) await new Promise((resolve) => setTimeout(resolve, 5));
    // Every round brings some 700 kB of gateways that nobody takes: the socket's buffers are full soon.
    for (let second = 0; second < 180 && open.streams === 1; second += 3) {
      for (let index = 0; index < 1_000; index++) {
        const backlog = { readings: second, bytes: 0, exceptions: 0, oldestUs: null };
        api.gateways.heartbeat(
          `${name}${index}`,
          { type: 'heartbeat', watermark: null, backlog, clock: { state: 'known', wallUs: second } },
          api.clock.nowUs(),
        );
      }
      api.clock.advance(3 * SECOND_US);
      await new Promise((resolve) => setTimeout(resolve, 20));
      await isOpen();
    }
    expect(open.streams).toBe(0);
    socket.destroy();
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
