import { existsSync, readFileSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { SluiceError } from '../../shared/errors.ts';
import { laneAppId } from '../../shared/uplink.ts';
import { batchOf, EPOCH, laneOf, startHub, temporaryLake } from '../engine.fixture.ts';
import type { SnapshotEngine } from '../engine-api.ts';
import type { SqlQuery } from './sql-api.ts';
import { SqlService } from './sql-service.ts';

const NOTHING: SnapshotEngine = {
  captureSnapshot: async () => ({ readings: null, exceptions: null, aggregates: [] }),
  reportUnreadable: async () => false,
};
const TIMEOUT_MS = 150;

const services: SqlService[] = [];
afterEach(() => {
  for (const service of services.splice(0)) service.stop();
});

function serviceOf(
  changes: { engine?: SnapshotEngine; processesMax?: number; timeoutMs?: number; answerBytesMax?: number } = {},
): SqlService {
  const service = new SqlService({
    captureAlerts: () => ({ version: 0, rows: [] }),
    engine: NOTHING,
    processesMax: 1,
    memoryBytesMax: 100_000_000,
    timeoutMs: TIMEOUT_MS,
    threads: 2,
    answerBytesMax: 1_000_000,
    ...changes,
  });
  services.push(service);
  return service;
}

function sql(text: string): SqlQuery {
  return { sql: text, parameters: [], format: 'json', rowsMax: 1_000 };
}

async function one(service: SqlService): Promise<unknown> {
  return (JSON.parse(Buffer.from((await service.query(sql('SELECT 1 AS one'))).body).toString()) as { rows: unknown }).rows;
}

test('a statement that would exhaust the hub is stopped within its bounds, and the next one runs', async () => {
  const service = serviceOf();
  const hostile = [
    'SELECT count(*) FROM range(10000000000) a, range(1000) b',
    'SELECT sum(a.range * b.range) FROM generate_series(1000000000000) a(range), range(3) b',
    'WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t',
    'WITH RECURSIVE t(s) AS (SELECT 1::HUGEINT UNION ALL SELECT s FROM t, range(10)) SELECT count(*) FROM t',
    "SELECT repeat('x', 4000000000)",
    'SELECT list(range) FROM range(100000000)',
    "SELECT repeat('x', 100000) FROM range(1000)",
    "SELECT regexp_matches(repeat('a', 1000000), '(a*)*b') FROM range(1000000)",
    `SELECT ${Array.from({ length: 5_000 }, (_, index) => `(SELECT ${index})`).join(' + ')}`,
  ];
  for (const text of hostile) {
    const startMs = performance.now();
    const error = await service.query(sql(text)).then(
      () => null,
      (caught: unknown) => caught,
    );
    expect(performance.now() - startMs, text.slice(0, 100)).toBeLessThan(TIMEOUT_MS + 4_000);
    expect((error as { code?: string } | null)?.code, `${text.slice(0, 100)}: ${String(error)}`).toMatch(
      /^ERR_(QUERY_(TIMEOUT|MEMORY|TOO_LARGE)|SQL_INVALID)$/,
    );
    // On a busy machine it may need more than the short limit of this test, too.
    await expect.poll(() => one(service).catch(() => null), { timeout: 10_000 }).toEqual([{ one: 1 }]);
  }
}, 60_000);

test('an answer is whole or an error: rows that break off in the middle, by a value or by the time limit, are none', async () => {
  const asked = (text: string, parameters: SqlQuery['parameters'] = []): SqlQuery => ({ ...sql(text), parameters, rowsMax: 1e9 });
  const service = serviceOf({ timeoutMs: 20_000, answerBytesMax: 100_000_000 });
  const late = asked('SELECT CASE WHEN range = ?::INT THEN error(? || range) ELSE range END AS n FROM range(400000)', [
    300_000,
    'the late row',
  ]);
  await expect(service.query(late)).rejects.toMatchObject({ code: 'ERR_SQL_INVALID', message: expect.stringContaining('the late row') });
  const hurried = serviceOf({ timeoutMs: 300 });
  const slow = asked('SELECT range FROM range(100000000000) WHERE range % 100000 = 0');
  await expect(hurried.query(slow)).rejects.toMatchObject({ code: 'ERR_QUERY_TIMEOUT' });
});

test('a statement whose caller goes away is stopped, and its process is free again', async () => {
  const service = serviceOf({ timeoutMs: 30_000 });
  const caller = new AbortController();
  const running = service.query(sql('SELECT count(*) FROM range(10000000000) a, range(1000) b'), caller.signal);
  setTimeout(() => caller.abort(), 100);
  await expect(running).rejects.toMatchObject({ code: 'ERR_QUERY_CANCELLED' });
  expect(await one(service)).toEqual([{ one: 1 }]);
});

/** Processes of statements that this one has. */
function sqlProcesses(): number[] {
  const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'latin1').trim().split(' ').map(Number);
  return children.filter((pid) => pid > 0 && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('sql-process'));
}

test.runIf(process.platform === 'linux')('a process that was taken while it was idle costs no statement', async () => {
  const before = new Set(sqlProcesses());
  const service = serviceOf({ timeoutMs: 30_000 });
  expect(await one(service)).toEqual([{ one: 1 }]);
  const [pid] = sqlProcesses().filter((own) => !before.has(own));
  process.kill(pid, 'SIGKILL');
  await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false);
  expect(await one(service)).toEqual([{ one: 1 }]);
  expect(service.running).toBe(0);
});

test('a statement that could not be captured leaves nothing behind for the next one of its process', async () => {
  let captures = 0;
  const caller = new AbortController();
  const captureSnapshot: SnapshotEngine['captureSnapshot'] = async (request) => {
    if (++captures > 1) return NOTHING.captureSnapshot(request);
    caller.abort();
    throw new SluiceError('ERR_STORE_IO', 'planted');
  };
  const service = serviceOf({ timeoutMs: 30_000, engine: { ...NOTHING, captureSnapshot } });
  await expect(service.query(sql('SELECT 1'), caller.signal)).rejects.toMatchObject({ code: 'ERR_STORE_IO' });
  expect(await one(service)).toEqual([{ one: 1 }]);
});

test('statements beyond what may wait are told to come again, and stopping fails the ones that run and wait', async () => {
  const service = serviceOf({ timeoutMs: 30_000 });
  const all = Array.from({ length: 17 }, () => service.query(sql('SELECT count(*) FROM range(10000000000) a, range(1000) b')));
  const settled = Promise.allSettled(all);
  await expect(service.query(sql('SELECT 1'))).rejects.toMatchObject({ code: 'ERR_HTTP_UNAVAILABLE' });
  service.stop();
  expect((await settled).map((result) => (result.status === 'rejected' ? (result.reason as { code: string }).code : 'answered'))).toEqual(
    Array.from({ length: 17 }, () => 'ERR_HTTP_UNAVAILABLE'),
  );
});

test('ingest goes on while statements use all they may: a batch is committed at most 2 s later', async () => {
  const lake = temporaryLake();
  const hub = await startHub(lake.directory);
  const service = serviceOf({ processesMax: 2, timeoutMs: 800 });
  const hostile = [1, 2].map(() => service.query(sql('SELECT sum(sqrt(a.range * b.range)) FROM range(10000000000) a, range(1000) b')));
  const stopped = Promise.allSettled(hostile);
  let over = false;
  void stopped.then(() => (over = true));
  let slowestMs = 0;
  let seq = 0;
  const lane = laneOf('gw-1');
  await hub.engine.openLane(lane, { epoch: EPOCH, lane: 'live', base: 1, assigned: 0 });
  while (!over) {
    const startMs = performance.now();
    hub.engine.submit(lane, batchOf(++seq, Date.UTC(2026, 10, 22) * 1000 + seq * 60_000_000, 60, 0));
    await hub.waitCommitted(laneAppId(lane), seq);
    slowestMs = Math.max(slowestMs, performance.now() - startMs);
  }
  expect((await stopped).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(seq).toBeGreaterThan(3);
  expect(slowestMs).toBeLessThan(2_050);
  await hub.engine.stop();
  lake.remove();
});
