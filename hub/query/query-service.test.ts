import type { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DEFAULT_FUNCTIONS } from '../../shared/window/partial.ts';
import { laneAppId } from '../../shared/uplink.ts';
import type { ExceptionRecord } from '../../shared/exception.ts';
import { batchOf, EPOCH, laneOf, startHub, temporaryLake, type TestHub } from '../engine.fixture.ts';
import type { QueryEngine } from '../engine-api.ts';
import { LakeReader } from './duckdb.ts';
import type { AggregateQuery, AggregateRow } from './query-api.ts';
import { openQueryThread, QueryService } from './query-service.ts';

/** A whole hour some hours ago: a watermark that lies ahead of the hub's clock is cut back. */
const START_US = (Math.floor(Date.now() / 3_600_000) - 3) * 3_600_000_000;

let lake: ReturnType<typeof temporaryLake>;
let hub: TestHub;
let query: QueryService;
beforeEach(async () => {
  lake = temporaryLake();
  await open();
});
afterEach(async () => {
  await query.stop();
  await hub.engine.stop();
  lake.remove();
});

async function open(): Promise<void> {
  hub = await startHub(lake.directory);
  query = await QueryService.start({ engine: engineOf(hub), lakeDir: lake.directory, memoryBytesMax: 256_000_000, timeoutMs: 10_000 });
}

/** The engine as the query service sees it through the thread's boundary. */
function engineOf({ definitions, engine }: TestHub): QueryEngine {
  return {
    definitions,
    captureAggregates: async (filter) => engine.captureAggregates(filter),
    captureTable: async (table, range) => engine.captureTable(table, range),
    reportUnreadable: (paths) => engine.reportUnreadable(paths),
    status: async () => engine.status(),
  };
}

function aggregates(changes: Partial<AggregateQuery> = {}): AggregateQuery {
  return {
    window: '1m',
    fromUs: START_US,
    toUs: START_US + 3_600_000_000,
    gateways: null,
    devices: null,
    metrics: null,
    functions: DEFAULT_FUNCTIONS,
    limit: 1_000,
    after: null,
    ...changes,
  };
}

const lane = laneOf('gw-1');

async function commit(seq: number, count: number, exceptions: readonly ExceptionRecord[] = []): Promise<void> {
  await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: seq });
  hub.engine.submit(lane, batchOf(seq, START_US + (seq - 1) * 60_000_000, count, seq * 100, exceptions));
  await hub.waitCommitted(laneAppId(lane), seq);
}

test('every window answers the same from overlay, tail, lake and after a restart', async () => {
  const cases = [
    { window: '1m', gateways: ['gw-1'], count: 2 },
    { window: '1h', gateways: ['gw-2'], count: 1 },
    { window: '10s', gateways: ['gw-3'], count: 9 },
    { window: '1m_by_metric', gateways: null, count: 2 }, // last: it is over all gateways
  ];
  const overlays: (readonly AggregateRow[])[] = [];
  for (const [index, { window, gateways, count }] of cases.entries()) {
    const own = laneOf(`gw-${index + 1}`);
    await hub.engine.openLane(own, { epoch: EPOCH, lane: 'live', base: 1, assigned: 2 });
    hub.engine.submit(own, batchOf(1, START_US, 90, -20));
    const { rows } = await query.aggregates(aggregates({ window, gateways }));
    await hub.waitCommitted(laneAppId(own), 1);
    const tail = await query.aggregates(aggregates({ window, gateways }));
    expect(tail.rows, window).toEqual(rows);
    expect(rows.length, window).toBe(count);
    overlays.push(rows);
  }
  await query.stop();
  await hub.engine.stop();
  await open();
  for (const [index, { window, gateways, count }] of cases.entries()) {
    const restarted = await query.aggregates(aggregates({ window, gateways }));
    expect(restarted.rows.length, window).toBe(count);
    for (const [place, row] of restarted.rows.entries()) {
      const before = overlays[index][place];
      expect(row, window).toMatchObject({ ...before, values: expect.anything() });
      row.values.forEach((value, field) => expect(value, window).toBeCloseTo(before.values[field] as number, 9));
    }
  }
});

test('named devices are answered the same by the thread of hot queries as by the other one, from overlay, tail and lake', async () => {
  const compare = async (count: number): Promise<void> => {
    const hot = await query.aggregates(aggregates({ devices: ['pump-1', 'no-such-pump'] }));
    expect(hot.rows.map(({ values }) => values[0])).toEqual([count]);
    // A commit may come between the two: it changes versions and nothing else.
    const { rows, overlayComplete, next } = hot;
    expect(await query.aggregates(aggregates({ devices: ['pump-1*'] }))).toMatchObject({ rows, overlayComplete, next });
    expect((await query.aggregates(aggregates({ devices: ['pump-1'], gateways: ['gw-2'] }))).rows).toEqual([]);
    expect((await query.aggregates(aggregates({ devices: ['pump-1'], metrics: ['pressure'] }))).rows).toEqual([]);
    const { bytes } = await query.aggregatesDocument(aggregates({ devices: ['pump-1', 'no-such-pump'] }), '"window":"1m"');
    const document = JSON.parse(`${Buffer.from(bytes).toString()}}`) as { rows: { count: number; device: string }[] };
    expect(document).toMatchObject({ window: '1m', overlay_complete: true, rows: [{ device: 'pump-1', count }], waiting_for: ['gw-1'] });
  };
  await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 2 });
  hub.engine.submit(lane, batchOf(1, START_US, 30, 0));
  await compare(30);
  await hub.waitCommitted(laneAppId(lane), 1);
  await compare(30);
  await hub.engine.flush();
  hub.engine.submit(lane, batchOf(2, START_US + 30_000_000, 20, 0));
  await compare(50);
});

test('a query that takes long does not delay a hot one', async () => {
  await commit(1, 60);
  const service = await QueryService.start({
    engine: engineOf(hub),
    openThread(settings) {
      const thread = openQueryThread(settings);
      const send = thread.postMessage.bind(thread);
      // It takes its time for ever.
      thread.postMessage = (message: unknown) => void (message === 'stop' && send(message));
      return thread;
    },
    lakeDir: lake.directory,
    memoryBytesMax: 256_000_000,
    timeoutMs: 10_000,
  });
  const stopped = expect(service.aggregates(aggregates())).rejects.toMatchObject({ code: 'ERR_HTTP_UNAVAILABLE' });
  const hot = Array.from({ length: 100 }, () => service.aggregates(aggregates({ devices: ['pump-1'] })));
  expect((await Promise.all(hot)).every(({ rows }) => rows.length === 1)).toBe(true);
  expect(service.pending).toBe(1);
  await service.stop();
  await stopped;
});

test('a page ends with a cursor, and the pages together are the whole answer', async () => {
  await commit(1, 200);
  const whole = await query.aggregates(aggregates({ window: '10s' }));
  expect(whole.rows.length).toBe(20);
  const paged = [];
  let after: AggregateQuery['after'] = null;
  do {
    const page: Awaited<ReturnType<QueryService['aggregates']>> = await query.aggregates(aggregates({ window: '10s', limit: 7, after }));
    paged.push(...page.rows);
    after = page.next;
  } while (after !== null);
  expect(paged).toEqual(whole.rows);
});

test('a window is provisional until the watermark passes it, then final, and says who keeps it open', async () => {
  await commit(1, 60);
  const open = await query.aggregates(aggregates());
  expect(open.rows).toMatchObject([{ status: 'provisional', complete: false }]);
  expect(open.waitingFor).toEqual(['gw-1']);
  hub.engine.assertWatermark('gw-1', { us: START_US + 60_000_000, positions: [{ epoch: EPOCH, lane: 'live', seq: 1 }] });
  const closed = await query.aggregates(aggregates());
  expect(closed.rows).toMatchObject([{ status: 'final', complete: true, revision: 0, late: 0 }]);
  expect(closed.waitingFor).toEqual([]);
});

test('an exception shows as lost in the windows that it overlaps, pending or committed, and they are not complete', async () => {
  const gap: ExceptionRecord = {
    kind: 'gap',
    device: 'pump-1',
    metric: 'temperature',
    fromUs: START_US + 30_000_000,
    toUs: START_US + 90_000_000,
    readingCount: 60,
    reason: 'buffer_full',
    payload: null,
  };
  await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 1 });
  hub.engine.submit(lane, batchOf(1, START_US, 120, 0, [gap]));
  const expected = [
    { lost: 30, lostIsEstimate: true },
    { lost: 30, lostIsEstimate: true },
  ];
  expect((await query.aggregates(aggregates())).rows).toMatchObject(expected);
  await hub.waitCommitted(laneAppId(lane), 1);
  expect((await query.aggregates(aggregates())).rows).toMatchObject(expected);
  expect(
    (
      await query.exceptions({
        fromUs: 0,
        toUs: START_US * 2,
        gateways: null,
        devices: null,
        metrics: null,
        kinds: null,
        limit: 10,
        after: null,
      })
    ).rows,
  ).toMatchObject([{ gateway: 'gw-1', kind: 'gap', device: 'pump-1', readingCount: 60, reason: 'buffer_full', seq: 1, idx: 0 }]);
});

test('raw readings come in order, page by page without gap or repetition', async () => {
  await commit(1, 50);
  await commit(2, 50);
  for (const order of ['asc', 'desc'] as const) {
    const values: (number | null)[] = [];
    let after = null;
    do {
      const page: Awaited<ReturnType<QueryService['readings']>> = await query.readings({
        fromUs: START_US,
        toUs: START_US + 3_600_000_000,
        gateways: null,
        devices: ['pump-1'],
        metrics: null,
        order,
        limit: 13,
        after,
      });
      values.push(...page.rows.map((row) => row.value));
      after = page.next;
    } while (after !== null);
    const expected = [...Array.from({ length: 50 }, (_, index) => 100 + index), ...Array.from({ length: 50 }, (_, index) => 200 + index)];
    expect(values).toEqual(order === 'asc' ? expected : expected.reverse());
  }
});

test('series are listed with their newest value and count, from lake and tail', async () => {
  await commit(1, 10);
  await hub.engine.stop();
  await query.stop();
  await open();
  await commit(2, 10);
  const all = { gateways: null, devices: null, metrics: null, tags: null, limit: 10, after: null };
  expect(await query.series(all, 0)).toMatchObject({
    rows: [{ gateway: 'gw-1', device: 'pump-1', metric: 'temperature', count: 20, lastValue: 209 }],
    truncated: false,
  });
});

test('the query engine reads the lake and nothing else', async () => {
  const reader = await LakeReader.open({ lakeDir: lake.directory, memoryBytesMax: 100_000_000, timeoutMs: 5_000 });
  await expect(reader.query("SELECT * FROM read_csv('/etc/passwd')", [])).rejects.toMatchObject({ code: 'ERR_QUERY_FAILED' });
  await expect(reader.query('SET enable_external_access = true', [])).rejects.toMatchObject({ code: 'ERR_QUERY_FAILED' });
});

test('stopping does not wait for a query that runs', async () => {
  const reader = await LakeReader.open({ lakeDir: lake.directory, memoryBytesMax: 100_000_000, timeoutMs: 60_000 });
  const running = reader.query('SELECT count(*) FROM range(10000000000) a, range(1000) b', []);
  const waiting = reader.query('SELECT 1', []);
  const refused = Promise.allSettled([running, waiting]);
  await new Promise((resolve) => setImmediate(resolve));
  await reader.close();
  expect((await refused).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
});

test('a query that takes too long is interrupted, and the next one runs', async () => {
  const reader = await LakeReader.open({ lakeDir: lake.directory, memoryBytesMax: 100_000_000, timeoutMs: 100 });
  await expect(reader.query('SELECT count(*) FROM range(10000000000) a, range(1000) b', [])).rejects.toMatchObject({
    code: 'ERR_QUERY_TIMEOUT',
  });
  expect((await reader.query('SELECT 1 AS one', [])).get('one')).toEqual([1]);
});

test('queries beyond what may wait are told to come again, and those that wait hold no capture', async () => {
  await commit(1, 60);
  let captures = 0;
  const { engine } = hub;
  const service = await QueryService.start({
    engine: {
      definitions: hub.definitions,
      captureAggregates: async (filter) => {
        captures++;
        return engine.captureAggregates(filter);
      },
      captureTable: async (table, range) => engine.captureTable(table, range),
      reportUnreadable: (paths) => engine.reportUnreadable(paths),
      status: async () => engine.status(),
    },
    lakeDir: lake.directory,
    memoryBytesMax: 256_000_000,
    timeoutMs: 10_000,
  });
  const all = Array.from({ length: 64 }, () => service.aggregates(aggregates()));
  await expect(service.aggregates(aggregates())).rejects.toMatchObject({ code: 'ERR_HTTP_UNAVAILABLE' });
  await all[0];
  expect(captures).toBeLessThanOrEqual(2);
  expect((await Promise.all(all)).every(({ rows }) => rows.length === 1)).toBe(true);
  expect(service.pending).toBe(0);
  await service.stop();
  await expect(service.aggregates(aggregates())).rejects.toMatchObject({ code: 'ERR_HTTP_UNAVAILABLE' });
});

test('a thread of queries that ended fails what it ran, and the next query is answered by another one', async () => {
  await commit(1, 60);
  const threads: Worker[] = [];
  const service = await QueryService.start({
    engine: engineOf(hub),
    openThread(settings) {
      const thread = openQueryThread(settings);
      // The first one ends with its query unanswered.
      if (threads.push(thread) === 1) thread.postMessage = () => void thread.terminate();
      return thread;
    },
    lakeDir: lake.directory,
    memoryBytesMax: 256_000_000,
    timeoutMs: 10_000,
  });
  const running = service.aggregates(aggregates());
  const failed = expect(running).rejects.toMatchObject({ code: 'ERR_QUERY_FAILED' });
  const waiting = service.aggregates(aggregates());
  await failed;
  expect((await waiting).rows).toHaveLength(1);
  expect(threads).toHaveLength(2);
  await service.stop();
});
