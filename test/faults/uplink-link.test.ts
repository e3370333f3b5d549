import type { AddressInfo } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listTokens, revokeToken, createToken } from '../../hub/ingest/tokens.ts';
import type { GatewayInfo } from '../../hub/ingest/gateways.ts';
import { systemClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { inspectBatch } from '../../shared/batch/decode.ts';
import { decodeGatewayMessage, decodeHubMessage, encodeGatewayMessage, encodeHubMessage } from '../../shared/uplink-codec.ts';
import { laneAppId, UPLINK_PATH, UPLINK_SUBPROTOCOL, type Hello, type HubMessage, type LaneName } from '../../shared/uplink.ts';
import { Bench, newId, ofVersion, sealedBatch, until } from './uplink-parts.ts';

let bench: Bench;

beforeEach(() => {
  bench = new Bench();
});

afterEach(async () => {
  await bench.stop();
});

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

function laneContents(epoch: string, lane: LaneName = 'live', gateway = 'gw-1'): number[] {
  return bench.lake.of(laneAppId({ gateway, epoch, lane }));
}

/** A client of its own, to say what the gateway would not say. */
async function rawClient(port: number, token: string): Promise<{ socket: WebSocket; messages: HubMessage[]; closed: () => number | null }> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${UPLINK_PATH}`, [UPLINK_SUBPROTOCOL], {
    headers: { authorization: `Bearer ${token}` },
  });
  const messages: HubMessage[] = [];
  let code: number | null = null;
  socket.on('message', (data: Buffer) => messages.push(decodeHubMessage(data)));
  socket.on('close', (closeCode) => {
    code = closeCode;
  });
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.once('open', resolve));
  return { socket, messages, closed: () => code };
}

function helloFor(epoch: string, assigned: number): Hello {
  return {
    type: 'hello',
    gatewayVersion: 'raw',
    wireVersions: [1],
    lakeId: null,
    epoch,
    lane: 'live',
    lanes: [{ epoch, lane: 'live', base: 1, assigned }],
    backlog: { readings: 0, bytes: 0, exceptions: 0, oldestUs: null },
    clock: { state: 'known', wallUs: systemClock.nowUs() },
  };
}

describe('an uplink over a good network', () => {
  test('carries every batch once and in order, frees it at the gateway, and reports backlog and watermark', async () => {
    const hub = await bench.hub();
    const uplink = bench.uplink(hub.port, await bench.token());
    for (const content of range(1, 400)) bench.journal.seal(sealedBatch(content, 20_000));
    await until(() => bench.journal.empty, 'all freed');
    expect(laneContents(bench.journal.epoch)).toEqual(range(1, 400));
    expect(hub.engine.violations).toEqual([]);
    await until(() => hub.engine.watermarks.length > 0, 'a watermark');
    expect(uplink.state()).toMatchObject({
      status: 'connected',
      lakeId: 'lake-1',
      gateway: 'gw-1',
      hubVersion: 'test',
      reconnectsTotal: 0,
      batchesSentTotal: 400,
    });
    const reported = (): GatewayInfo | null => hub.gateways.get('gw-1', systemClock.nowUs());
    await until(() => reported()?.backlog.oldestUs === null, 'an empty backlog');
    expect(reported()).toMatchObject({
      connections: 1,
      batchesReceived: 400,
      lagUs: 0,
      lanes: [{ lane: 'live', committed: 400, connected: true }],
    });
  });

  test('lanes of earlier openings and the backfill drain beside the live lane, over at most four connections, and then close', async () => {
    const hub = await bench.hub();
    const { journal } = bench;
    const epochs = range(1, 6).map(() => newId());
    for (const epoch of epochs) {
      const lane = journal.laneOf(epoch, 'live');
      lane.assigned = 3;
      for (const seq of range(1, 3)) lane.held.set(seq, sealedBatch(seq));
    }
    journal.ageMs = 60_000;
    for (const content of range(1, 20)) journal.seal(sealedBatch(content), 'backfill');
    const uplink = bench.uplink(hub.port, await bench.token());
    let connectionsMax = 0;
    await until(() => {
      connectionsMax = Math.max(
        connectionsMax,
        uplink.state().lanes.filter((lane) => lane.state === 'open' || lane.state === 'connecting').length,
      );
      return journal.empty;
    }, 'all drained');
    for (const epoch of epochs) expect(laneContents(epoch)).toEqual(range(1, 3));
    expect(laneContents(journal.epoch, 'backfill')).toEqual(range(1, 20));
    expect(connectionsMax).toBe(4);
    await until(() => hub.server.state.connections === 1, 'only the live lane is left');
    expect(uplink.state().lanes.filter((lane) => lane.state === 'open')).toMatchObject([{ lane: 'live', epoch: journal.epoch }]);
  });

  test('a hub that does not commit stops reading at its bound; afterwards everything arrives', async () => {
    const hub = await bench.hub({ pendingBytesMax: 200_000 });
    const uplink = bench.uplink(hub.port, await bench.token());
    await until(() => uplink.state().connected, 'connected');
    hub.engine.held = true;
    for (const content of range(1, 100)) bench.journal.seal(sealedBatch(content, 20_000));
    await until(() => hub.server.paused, 'paused');
    expect(hub.engine.pendingBytes).toBeLessThan(400_000);
    // Positions go on while nothing is read, so the watchdog of 250 ms sees a slow hub, not a dead one.
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(uplink.state()).toMatchObject({ connected: true, reconnectsTotal: 0 });
    expect(hub.engine.pendingBytes).toBeLessThan(400_000);
    hub.engine.held = false;
    await until(() => bench.journal.empty, 'all freed');
    expect(laneContents(bench.journal.epoch)).toEqual(range(1, 100));
    expect(hub.server.paused).toBe(false);
  });
});

describe('an uplink over a bad network', () => {
  test('cuts at any moment lose nothing and double nothing', async () => {
    const hub = await bench.hub();
    const proxy = await bench.proxy(hub.port);
    const uplink = bench.uplink(proxy.port, await bench.token());
    for (const round of range(0, 11)) {
      for (const content of range(1, 20)) bench.journal.seal(sealedBatch(round * 20 + content, 5_000));
      await until(() => uplink.state().connected && uplink.state().reconnectsTotal >= round, 'connected again');
      await new Promise((resolve) => setTimeout(resolve, round * 2));
      proxy.cut();
    }
    await until(() => bench.journal.empty, 'all freed');
    expect(laneContents(bench.journal.epoch)).toEqual(range(1, 240));
    expect(hub.engine.violations).toEqual([]);
    await until(() => uplink.state().reconnectsTotal >= 12, 'every cut was noticed');
  });

  test('a half-open connection is found by the committed position and replaced', async () => {
    const hub = await bench.hub();
    const proxy = await bench.proxy(hub.port);
    const uplink = bench.uplink(proxy.port, await bench.token());
    await until(() => uplink.state().connected, 'connected');
    proxy.freeze();
    bench.journal.seal(sealedBatch(1));
    await until(() => bench.journal.empty, 'freed over a new connection');
    expect(laneContents(bench.journal.epoch)).toEqual([1]);
    expect(uplink.state()).toMatchObject({ reconnectsTotal: 1, lastError: { code: 'ERR_UPLINK_STALLED' } });
  });

  test('an idle half-open connection is found by its silence', async () => {
    const hub = await bench.hub();
    const proxy = await bench.proxy(hub.port);
    const uplink = bench.uplink(proxy.port, await bench.token(), { pingIntervalMs: 50, silenceMsMax: 200, heartbeatIntervalMs: 60_000 });
    await until(() => uplink.state().connected, 'connected');
    proxy.freeze();
    await until(() => uplink.state().reconnectsTotal === 1 && uplink.state().connected, 'connected again');
    expect(uplink.state().lastError).toMatchObject({ code: 'ERR_UPLINK_STALLED' });
  });

  test('a hub that dies with received batches gets them again from its successor on', async () => {
    const first = await bench.hub();
    const proxy = await bench.proxy(first.port);
    const token = await bench.token();
    const uplink = bench.uplink(proxy.port, token);
    await until(() => uplink.state().connected, 'connected');
    first.engine.held = true;
    for (const content of range(1, 30)) bench.journal.seal(sealedBatch(content));
    await until(() => uplink.state().lanes[0]?.received === 30, 'all received');
    expect(bench.journal.freedTotal).toBe(0);
    const second = await bench.hub();
    proxy.target = second.port;
    await first.stop();
    await until(() => bench.journal.empty, 'all freed');
    expect(laneContents(bench.journal.epoch)).toEqual(range(1, 30));
    expect(uplink.state().hubInstance).toBe(second.server.hubInstance);
  });

  test('a batch that is damaged on its way is refused, not stored, and comes again', async () => {
    const hub = await bench.hub();
    const uplink = bench.uplink(hub.port, await bench.token());
    let damaged = 0;
    bench.journal.onOffer = (body, seq) => {
      if (seq !== 3 || damaged++ > 0) return body;
      const copy = Uint8Array.from(body);
      copy[50] = copy[50] ^ 1;
      return copy;
    };
    for (const content of range(1, 5)) bench.journal.seal(sealedBatch(content));
    await until(() => bench.journal.empty, 'all freed');
    expect(laneContents(bench.journal.epoch)).toEqual(range(1, 5));
    expect(uplink.state().lastError).toMatchObject({ code: 'ERR_UPLINK_REFUSED' });
  });

  test('a newer connection takes the lane over, and the older one learns it', async () => {
    const hub = await bench.hub();
    const token = await bench.token();
    const uplink = bench.uplink(hub.port, token, { backoffMsMin: 100, backoffMsMax: 100 });
    await until(() => uplink.state().connected, 'connected');
    const raw = await rawClient(hub.port, token);
    raw.socket.send(encodeGatewayMessage(helloFor(bench.journal.epoch, 0)));
    await until(() => raw.messages.length > 0, 'a welcome');
    expect(raw.messages[0]).toMatchObject({ type: 'welcome', gateway: 'gw-1', position: { received: 0, status: 'open' } });
    await until(() => uplink.state().lastError?.message.includes('lane_taken_over') === true, 'the older one learns it');
    // The gateway comes back and takes it over in turn; what it sends then counts.
    bench.journal.seal(sealedBatch(1));
    await until(() => bench.journal.empty, 'freed');
    await until(() => raw.messages.at(-1)?.type === 'refuse', 'the raw client learns it in turn');
    expect(laneContents(bench.journal.epoch)).toEqual([1]);
  });
});

describe('who may connect, and to what', () => {
  test('an unknown token, a token of another kind, a wrong path and no subprotocol get HTTP errors; a new token works without restart', async () => {
    const hub = await bench.hub();
    const { token: read } = await createToken(bench.store, 'read', null, systemClock, (count) => Buffer.alloc(count, 7));
    const status = async (path: string, token: string | null, protocol: string): Promise<number> => {
      const socket = new WebSocket(`ws://127.0.0.1:${hub.port}${path}`, protocol === '' ? [] : [protocol], {
        headers: token === null ? {} : { authorization: `Bearer ${token}` },
      });
      return new Promise((resolve) => {
        socket.on('error', () => undefined);
        socket.on('open', () => resolve(101));
        socket.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0));
      });
    };
    expect(await status(UPLINK_PATH, null, UPLINK_SUBPROTOCOL)).toBe(401);
    expect(await status(UPLINK_PATH, 'slc_AAAAAAAAAAAAAAAAAAAAAA', UPLINK_SUBPROTOCOL)).toBe(401);
    expect(await status(UPLINK_PATH, '__proto__', UPLINK_SUBPROTOCOL)).toBe(401);
    expect(await status(UPLINK_PATH, read, UPLINK_SUBPROTOCOL)).toBe(403);
    expect(await status('/elsewhere', read, UPLINK_SUBPROTOCOL)).toBe(404);
    expect(await status(UPLINK_PATH, read, '')).toBe(400);
    await new Promise((resolve) => setTimeout(resolve, 15));
    expect(await status(UPLINK_PATH, await bench.token(), UPLINK_SUBPROTOCOL)).toBe(101);

    const uplink = bench.uplink(hub.port, 'slc_AAAAAAAAAAAAAAAAAAAAAA');
    await until(() => uplink.state().lastError?.code === 'ERR_UPLINK_UNAUTHORIZED', 'the gateway says why');
  });

  test('a revoked token closes its connections', async () => {
    const hub = await bench.hub();
    const uplink = bench.uplink(hub.port, await bench.token());
    await until(() => uplink.state().connected, 'connected');
    const [record] = await listTokens(bench.store);
    await revokeToken(bench.store, record?.id ?? '');
    await until(() => uplink.state().lastError !== null && hub.server.state.connections === 0, 'refused');
    expect(['ERR_UPLINK_REFUSED', 'ERR_UPLINK_UNAUTHORIZED']).toContain(uplink.state().lastError?.code);
  });

  test('a gateway sends and frees nothing at another lake, until an operator accepts it', async () => {
    const hub = await bench.hub();
    bench.journal.lakeId = 'lake-0';
    bench.journal.seal(sealedBatch(1));
    const token = await bench.token();
    const uplink = bench.uplink(hub.port, token);
    await until(() => uplink.state().status === 'wrong_lake', 'wrong lake');
    expect(uplink.state().lastError).toMatchObject({ code: 'ERR_UPLINK_WRONG_LAKE' });
    expect(bench.journal.lakeId).toBe('lake-0');
    expect(bench.journal.laneList.every((lane) => lane.assigned === 0)).toBe(true);
    await uplink.stop(100);
    const accepting = bench.uplink(hub.port, token, { acceptLakeId: 'lake-1' });
    await until(() => bench.journal.empty, 'freed');
    expect(bench.journal.lakeId).toBe('lake-1');
    expect(accepting.state().status).toBe('connected');
  });

  test('a hub that does not compare lakes is compared by the gateway', async () => {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    const seen: string[] = [];
    server.on('connection', (socket) => {
      socket.on('message', (data: Buffer) => {
        const message = decodeGatewayMessage(data);
        seen.push(message.type);
        if (message.type !== 'hello') return;
        const { epoch, lane } = message;
        const admission = { inFlightBytesMax: 1_000_000, backfillBytesPerSecond: 0 };
        const hubInstance = newId();
        const position = {
          type: 'position',
          hubInstance,
          epoch,
          lane,
          generation: 0,
          received: 0,
          committed: 0,
          status: 'open',
          rewind: false,
          admission,
        } as const;
        socket.send(
          encodeHubMessage({
            type: 'welcome',
            hubInstance,
            hubVersion: '1',
            lakeId: 'lake-9',
            gateway: 'g',
            wireVersions: [1],
            compressions: [],
            wallUs: 1,
            position,
          }),
        );
      });
    });
    await new Promise((resolve) => server.once('listening', resolve));
    bench.journal.lakeId = 'lake-1';
    bench.journal.seal(sealedBatch(1));
    const uplink = bench.uplink((server.address() as AddressInfo).port, 'slc_AAAAAAAAAAAAAAAAAAAAAA');
    await until(() => uplink.state().status === 'wrong_lake', 'wrong lake');
    expect(seen).toEqual(['hello']);
    expect(bench.journal).toMatchObject({ lakeId: 'lake-1', empty: false });
    server.close();
  });

  test('frames that are too large, text, garbage, or out of turn end the connection and nothing else', async () => {
    const hub = await bench.hub({ frameBytesMax: 100_000, helloTimeoutMs: 150 });
    const token = await bench.token();
    const big = await rawClient(hub.port, token);
    big.socket.send(Buffer.alloc(100_001));
    await until(() => big.closed() !== null, 'closed');
    expect(big.closed()).toBe(1009);
    const epoch = newId();
    const wrong: (Uint8Array | string)[] = [
      'text',
      Buffer.from([0xc1, 1, 2]),
      encodeGatewayMessage({ type: 'batch', seq: 1, generation: 0, readingCount: 1, exceptionCount: 0, body: new Uint8Array(3) }),
      encodeGatewayMessage({ ...helloFor(epoch, 0), lanes: [] }),
      encodeGatewayMessage({ ...helloFor(epoch, 0), lanes: [{ epoch, lane: 'live', base: 5, assigned: 1 }] }),
    ];
    for (const frame of wrong) {
      const raw = await rawClient(hub.port, token);
      raw.socket.send(frame);
      await until(() => raw.closed() !== null, 'closed');
      expect(raw.messages.at(-1)).toMatchObject({ type: 'refuse', code: 'bad_message' });
    }
    const silent = await rawClient(hub.port, token);
    await until(() => silent.closed() !== null, 'a client without hello is closed');
    const uplink = bench.uplink(hub.port, token);
    bench.journal.seal(sealedBatch(1));
    await until(() => bench.journal.empty, 'the next good gateway is served');
    expect(uplink.state().connected).toBe(true);
  });

  test('connections of one gateway are bounded', async () => {
    const hub = await bench.hub({ connectionsPerGatewayMax: 2 });
    const token = await bench.token();
    const clients = [await rawClient(hub.port, token), await rawClient(hub.port, token), await rawClient(hub.port, token)];
    await until(() => clients[2]?.closed() !== null, 'the third is closed');
    expect(clients[2]?.messages).toMatchObject([{ type: 'refuse', code: 'too_many_connections' }]);
    for (const client of clients) client.socket.terminate();
  });
});

describe('positions that do not fit', () => {
  test('a lake that is ahead of the journal forks the lane: nothing is freed, new data goes on in a new epoch', async () => {
    const hub = await bench.hub();
    const { journal } = bench;
    const old = journal.epoch;
    laneContents(old).push(...range(1, 50));
    const lane = journal.laneOf(old, 'live');
    lane.assigned = 10;
    for (const seq of range(8, 10)) lane.held.set(seq, sealedBatch(seq));
    journal.seal(sealedBatch(1000));
    const uplink = bench.uplink(hub.port, await bench.token());
    await until(() => journal.epoch !== old && laneContents(journal.epoch).length === 1, 'the new epoch goes on');
    expect(laneContents(journal.epoch)).toEqual([1000]);
    expect(laneContents(old)).toEqual(range(1, 50));
    expect([...lane.held.keys()]).toEqual([8, 9, 10]);
    expect(journal.epochReasons).toHaveLength(1);
    expect(uplink.state().lanes.find((other) => other.epoch === old)).toMatchObject({ state: 'forked' });
  });

  test('a lake that lost its log gets a gap for what the gateway has freed, and the lane goes on', async () => {
    const hub = await bench.hub();
    const lane = bench.journal.laneOf(bench.journal.epoch, 'live');
    lane.assigned = 10;
    for (const seq of range(8, 10)) lane.held.set(seq, sealedBatch(seq));
    bench.uplink(hub.port, await bench.token());
    await until(() => bench.journal.empty, 'all freed');
    expect(laneContents(bench.journal.epoch)).toEqual([-1, -1, -1, -1, -1, -1, -1, 8, 9, 10]);
    expect(bench.lake.gaps).toHaveLength(7);
  });

  test('a batch of a newer wire version makes its lane wait, keeps what came before it, and goes on after the upgrade', async () => {
    let upgraded = false;
    const hub = await bench.hub({}, (body) => {
      if (!upgraded || body[3] === 1) return inspectBatch(body);
      if (body.length === 0) throw new SluiceError('ERR_BATCH_MALFORMED', 'empty');
      return { readingCount: 10, exceptionCount: 0 };
    });
    const uplink = bench.uplink(hub.port, await bench.token(), { laneRetryMs: 100 });
    for (const content of range(1, 3)) bench.journal.seal(sealedBatch(content));
    bench.journal.seal(ofVersion(sealedBatch(4), 99));
    bench.journal.seal(sealedBatch(5));
    await until(() => bench.journal.freedTotal === 3 && uplink.state().lanes.some((lane) => lane.state === 'upgrade_hub'), 'waiting');
    expect(laneContents(bench.journal.epoch)).toEqual([1, 2, 3]);
    upgraded = true;
    await until(() => bench.journal.empty, 'all freed');
    expect(laneContents(bench.journal.epoch)).toEqual(range(1, 5));
  });
});
