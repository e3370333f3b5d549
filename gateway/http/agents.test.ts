/** The programs that people have, writing to the gateway: InfluxDB's client library and a real Prometheus. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { createServer as createHttpServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { HttpError, InfluxDB, Point, setLogger } from '@influxdata/influxdb-client';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/logging.ts';
import { Access } from '../access.ts';
import { MemoryJournal } from '../broker/memory-journal.ts';
import { accessConfigSchema, httpConfigSchema } from '../config.ts';
import { Credentials, addDevice, credentialsPath } from '../credentials.ts';
import { Decoder } from '../decode/decoder.ts';
import { createIngestCounters, type IngestCounters } from '../ingest-counters.ts';
import { MessageTap } from '../tail/message-tap.ts';
import { Ingest } from './ingest.ts';
import { startHttp, type HttpServer } from './server.ts';

/** Debian: apt install prometheus. */
const PROMETHEUS: string = 'prometheus';
const prometheusMissing = spawnSync(PROMETHEUS, ['--version']).error !== undefined;
if (prometheusMissing) console.log('prometheus is not installed: its test is skipped');

setLogger({ error: () => undefined, warn: () => undefined });

let directory: string;
let journal: MemoryJournal;
let counters: IngestCounters;
let server: HttpServer | null = null;
let base: string;
let child: ChildProcess | null = null;

beforeEach(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-agents-'));
  journal = new MemoryJournal();
  counters = createIngestCounters();
  const tap = new MessageTap(journal.series, systemClock);
  server = await startHttp({
    config: httpConfigSchema.parse({ port: 0 }),
    access: new Access(accessConfigSchema.parse({}), new Credentials(credentialsPath(directory), systemClock)),
    ingest: new Ingest({ decoder: new Decoder([], journal.series), journal, clock: systemClock, counters, tap }),
    logger: createLogger('test', 'silent'),
    status: () => Promise.resolve({}),
    metrics: () => Promise.resolve(''),
    devices: () => null,
    notReady: () => null,
    clock: systemClock,
    tap,
  });
  base = `http://127.0.0.1:${server.address.port}`;
});
afterEach(async () => {
  child?.kill('SIGKILL');
  child = null;
  journal.automatic = true;
  journal.commit();
  await server?.stop(100);
  rmSync(directory, { recursive: true, force: true });
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}

test("InfluxDB's client library writes, retries what was not durable, and is told of faulty lines", async () => {
  const secret = addDevice(credentialsPath(directory), 'collector', { anyDevice: true, now: new Date() });
  const options = { retryJitter: 0, minRetryDelay: 10, maxRetryDelay: 20, gzipThreshold: 0 };
  const api = new InfluxDB({ url: base, token: secret }).getWriteApi('org', 'bucket', 'ms', options);
  journal.refuse = new SluiceError('ERR_JOURNAL_UNAVAILABLE', 'the disk is full');
  for (let index = 0; index < 500; index++)
    api.writePoint(
      new Point('cpu')
        .tag('host', 'pi')
        .tag('cpu', '0')
        .floatField('usage', index)
        .timestamp(1_700_000_000_000 + index),
    );
  const flushed = api.flush().catch(() => undefined); // it tells of the first attempt alone
  await until(() => counters.messages > 0);
  journal.refuse = null;
  await flushed;
  await until(() => journal.readings.length === 500);
  expect(journal.readings[1]).toEqual({
    device: 'pi',
    metric: 'cpu.usage',
    tags: '{"cpu":"0"}',
    us: 1_700_000_000_001_000,
    value: 1,
    text: null,
  });
  const strict = new InfluxDB({ url: base, token: secret }).getWriteApi('org', 'bucket', 'ms', { ...options, maxRetries: 0 });
  strict.writeRecord('cpu,host=pi usage=1 1');
  strict.writeRecord('cpu,host=pi usage=');
  const refused = await strict.close().catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(HttpError);
  expect(refused).toMatchObject({ statusCode: 400 });
  expect(journal.readings).toHaveLength(501);
  await api.close();
});

test.skipIf(prometheusMissing)(
  'a real Prometheus writes what it scrapes, once, through a journal that fails meanwhile; a target that ends is no reading',
  { timeout: 60_000 },
  async () => {
    let scrapes = 0;
    const target = createHttpServer((_request, response) => {
      response.end(`scrapes_total{door="front \\"a\\""} ${++scrapes}\nnot_a_number NaN\n`);
    });
    await new Promise<void>((resolve) => void target.listen(0, '127.0.0.1', resolve));
    const targetPort = (target.address() as AddressInfo).port;
    const port = await new Promise<number>((resolve) => {
      const probe = createServer().listen(0, '127.0.0.1', () => {
        const free = (probe.address() as AddressInfo).port;
        probe.close(() => resolve(free));
      });
    });
    const config = {
      global: { scrape_interval: '200ms', scrape_timeout: '200ms' },
      scrape_configs: [{ job_name: 'door', static_configs: [{ targets: [`127.0.0.1:${targetPort}`] }] }],
      remote_write: [
        {
          url: `${base}/api/v1/write`,
          queue_config: { batch_send_deadline: '100ms', min_backoff: '10ms', max_backoff: '50ms', max_shards: 1 },
        },
      ],
    };
    writeFileSync(path.join(directory, 'prometheus.yml'), JSON.stringify(config));
    const flags = [`--config.file=${directory}/prometheus.yml`, `--storage.tsdb.path=${directory}/tsdb`];
    child = spawn(PROMETHEUS, [...flags, `--web.listen-address=127.0.0.1:${port}`, '--log.level=error'], { stdio: 'ignore' });
    const counted = (): (number | null)[] => journal.readings.filter(({ metric }) => metric === 'scrapes_total').map(({ value }) => value);
    await until(() => counted().length >= 3);
    // A journal that stored the request and could not say so, then one that cannot store: both are asked again.
    journal.automatic = false;
    await until(() => journal.uncommitted > 0);
    journal.commit(new SluiceError('ERR_JOURNAL_UNAVAILABLE', 'the disk is full'));
    journal.automatic = true;
    const before = scrapes;
    await until(() => counted().length >= before + 2);
    expect(counted()).toEqual(Array.from({ length: counted().length }, (_, index) => index + 1));
    expect(journal.readings.find(({ metric }) => metric === 'scrapes_total')).toMatchObject({
      device: `127.0.0.1:${targetPort}`,
      tags: JSON.stringify({ door: 'front "a"', job: 'door' }),
    });
    expect(journal.readings.find(({ metric }) => metric === 'not_a_number')).toMatchObject({ value: null, text: 'NaN' });
    expect(counters.staleMarkers).toBe(0);
    target.closeAllConnections();
    await new Promise((resolve) => target.close(resolve));
    await until(() => counters.staleMarkers > 0);
    expect(journal.exceptions).toEqual([]);
  },
);
