import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/logging.ts';
import { MemoryJournal } from '../broker/memory-journal.ts';
import { Decoder } from '../decode/decoder.ts';
import { createIngestCounters } from '../ingest-counters.ts';
import { MessageTap } from '../tail/message-tap.ts';
import { folderSourceSchema } from './folder-settings.ts';
import { FolderSource } from './folder-source.ts';
import { readRows } from './table-reader.ts';

const MAIN = fileURLToPath(new URL('../../dist/gateway/main.js', import.meta.url));

let directory: string;
let journal: MemoryJournal;
let source: FolderSource | null = null;
let child: ChildProcess | null = null;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-folder-'));
  journal = new MemoryJournal();
});
afterEach(async () => {
  journal.automatic = true;
  journal.commit();
  await source?.stop();
  source = null;
  child?.kill('SIGKILL');
  child = null;
  rmSync(directory, { recursive: true, force: true });
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

function start(settings: Record<string, unknown> = {}): FolderSource {
  source = new FolderSource({
    settings: folderSourceSchema.parse({ name: 'drop', directory, settleMs: 0, pollIntervalMs: 100, ...settings }),
    decoder: new Decoder([], journal.series),
    journal,
    clock: systemClock,
    counters: createIngestCounters(),
    logger: createLogger('test', 'silent'),
    tap: new MessageTap(journal.series, systemClock),
  });
  return source;
}

function put(name: string, text: string | Buffer): void {
  writeFileSync(path.join(directory, name), text);
}

const settled = (count: number) => () => {
  const { filesDone = 0, filesFailed = 0 } = source?.status() ?? {};
  return filesDone + filesFailed === count;
};

function json(...parts: string[]): unknown {
  return JSON.parse(readFileSync(path.join(directory, ...parts), 'utf8'));
}

describe('the directory', () => {
  test('a file that cannot be read or moved holds up no other, and is tried again', async () => {
    const rows = 'time,device,v\n1700000000,d1,1\n';
    const stuck = createHash('sha256').update(rows).digest('hex').slice(0, 12);
    // What renaming meets there makes it fail.
    for (const name of ['a.csv', `a.csv.${stuck}`]) mkdirSync(path.join(directory, 'done', name), { recursive: true });
    put('a.csv', rows);
    put('b.csv', 'time,device,v\n1700000001,d1,2\n');
    const folder = start();
    await until(settled(1));
    expect(existsSync(path.join(directory, 'done', 'b.csv'))).toBe(true);
    expect(folder.status().lastError).toMatch(/^a\.csv: /);
    rmSync(path.join(directory, 'done', 'a.csv'), { recursive: true });
    await until(settled(2));
    expect(journal.readings.map(({ value }) => value)).toEqual([1, 2]);
  });

  test('names of any length are settled, with their reports', async () => {
    const long = `${'n'.repeat(251)}.csv`;
    put(long, 'time,device,v\n1700000000,d1,1\nbad,d1,2\n');
    start();
    await until(settled(1));
    put(long, 'time,device,v\n1700000000,d1,3\nbad,d1,2\n');
    await until(settled(2));
    const names = readdirSync(path.join(directory, 'done'));
    expect(names.filter((name) => name.endsWith('.error.json'))).toHaveLength(2);
    expect(names).toHaveLength(4);
  });
});

describe('CSV', () => {
  test('a wide table: each column is a metric, its file goes to done/', async () => {
    put('a.csv', '\ufefftime,device,temperature,state,site\r\n2023-11-14T22:13:20Z,d1,21.5,"a, ""b""\nc",x\r\n1700000001,d2,,on,x\r\n');
    start({ tagColumns: ['site'] });
    await until(settled(1));
    expect(journal.readings).toEqual([
      { device: 'd1', metric: 'temperature', tags: '{"site":"x"}', us: 1_700_000_000_000_000, value: 21.5, text: null },
      { device: 'd1', metric: 'state', tags: '{"site":"x"}', us: 1_700_000_000_000_000, value: null, text: 'a, "b"\nc' },
      { device: 'd2', metric: 'state', tags: '{"site":"x"}', us: 1_700_000_001_000_000, value: null, text: 'on' },
    ]);
    expect(readdirSync(directory)).toEqual(['done']);
    expect(readdirSync(path.join(directory, 'done'))).toEqual(['a.csv']);
  });

  test('a long table, with ; and a decimal comma, without a header and without zones', async () => {
    put('a.txt', '14;temp;21,5;2023-11-14 22:13:20\n14;rpm;1480;2023-11-14 22:13:21.5\n');
    start({
      delimiter: ';',
      decimalComma: true,
      assumeUtc: true,
      columns: ['device', 'name', 'value', 'time'],
      metricColumn: 'name',
    });
    await until(settled(1));
    expect(journal.readings).toMatchObject([
      { device: '14', metric: 'temp', value: 21.5, us: 1_700_000_000_000_000 },
      { device: '14', metric: 'rpm', value: 1480, us: 1_700_000_001_500_000 },
    ]);
  });

  test('damaged rows are dead letters with their line numbers and harm no other', async () => {
    put('a.csv', 'time,device,v\n1700000000,d1,1\nsoon,d1,2\n1700000002,d1\n1700000003,"d1,4\n1700000004,d1,"5" x\n\n1700000005,d1,6\n');
    start();
    await until(settled(1));
    expect(journal.readings.map(({ value }) => value)).toEqual([1, 6]);
    expect(json('done', 'a.csv.error.json')).toMatchObject({
      rows: 6,
      readings: 2,
      problems: 4,
      listed: [
        { line: 3, code: 'ERR_DECODE_TIME' },
        { line: 4, code: 'ERR_DECODE_SHAPE', message: 'it has 2 fields, the table 3' },
        { line: 5, code: 'ERR_DECODE_SYNTAX', message: 'a quote is never closed' },
        { line: 6, code: 'ERR_DECODE_SYNTAX' },
      ],
    });
    expect(journal.exceptions.map(({ kind, reason }) => [kind, /line (\d+)/.exec(reason)?.[1]])).toEqual([
      ['dead_letter', '3'],
      ['dead_letter', '4'],
      ['dead_letter', '5'],
      ['dead_letter', '6'],
    ]);
  });

  test.each<[string, string | Buffer, Record<string, unknown>, string]>([
    ['a column that is not there', 'when,device,v\n1,d1,1\n', {}, 'ERR_DECODE_SHAPE'],
    ['two columns of one name', 'time,device,v,v\n1,d1,1,2\n', {}, 'ERR_SOURCE_FILE'],
    ['text that is not UTF-8', Buffer.from('time,device,v\n1,d\xe9,1\n', 'latin1'), {}, 'ERR_SOURCE_FILE'],
    ['nothing', '', {}, 'ERR_SOURCE_FILE'],
    ['more bytes than allowed', 'x'.repeat(2_000), { fileBytesMax: 1_024 }, 'ERR_SOURCE_FILE'],
  ])('%s fails the file with a reason', async (_, content, settings, code) => {
    put('a.csv', content);
    start(settings);
    await until(settled(1));
    expect(json('failed', 'a.csv.error.json')).toMatchObject({ file: 'a.csv', code, error: expect.any(String) });
    expect(existsSync(path.join(directory, 'failed', 'a.csv'))).toBe(true);
    expect(journal.readings).toEqual([]);
  });

  test('whatever the bytes are, each row is read or damaged, and the lines after a bad one are not lost', async () => {
    const row = fc.constantFrom('1,a', '"x",2', '"un', 'b"c,1', '"m\nn",3', '', 'é,4', '"');
    await fc.assert(
      fc.asyncProperty(fc.array(row, { maxLength: 30 }), fc.integer({ min: 1, max: 40 }), async (rows, chunkBytes) => {
        const bytes = Buffer.from(`${rows.join('\n')}\ngood,1\ngood,2\n`);
        async function* chunks(): AsyncGenerator<Buffer> {
          for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
        }
        const read = [];
        for await (const piece of readRows(chunks(), { format: 'csv', delimiter: ',', encoding: 'utf8' })) read.push(...piece);
        const lines = read.map(({ line }) => line);
        expect(lines).toEqual([...lines].sort((a, b) => a - b));
        if (rows.every((text) => !text.includes('"')))
          expect(read.map(({ cells }) => cells)).toEqual(
            [...rows.filter((text) => text !== ''), 'good,1', 'good,2'].map((text) => text.split(',')),
          );
        const last = read.at(-1);
        expect(last?.cells === null ? last.fault : JSON.stringify(last?.cells)).toMatch(/good|quote|Quote/);
      }),
      { numRuns: 200 },
    );
  });
});

describe('NDJSON', () => {
  test('lines have the shapes of payloads; damaged lines are dead letters', async () => {
    put(
      'a.ndjson',
      '{"device":"d1","time":1700000000,"v":1}\n{"device":"d1",\n\n{"device":"d2","time":1700000001,"values":{"v":2}}\n[1]\n',
    );
    start();
    await until(settled(1));
    expect(journal.readings).toMatchObject([
      { device: 'd1', metric: 'v', value: 1, us: 1_700_000_000_000_000 },
      { device: 'd2', metric: 'v', value: 2 },
    ]);
    expect(json('done', 'a.ndjson.error.json')).toMatchObject({ listed: [{ line: 2 }, { line: 5, code: 'ERR_DECODE_SHAPE' }] });
  });

  test('long lines name the metric in a key', async () => {
    put('a.jsonl', '{"sensor":"s1","name":"temp","value":1.5,"time":1700000000,"site":"x"}\n');
    start({ deviceColumn: 'sensor', metricColumn: 'name', tagColumns: ['site'] });
    await until(settled(1));
    expect(journal.readings).toMatchObject([{ device: 's1', metric: 'temp', value: 1.5, tags: '{"site":"x"}' }]);
  });
});

describe('exactly once', () => {
  const table = (rows: number): string =>
    `time,device,v\n${Array.from({ length: rows }, (_, index) => `${1700000000 + index},d${index % 5},${index}`).join('\n')}\n`;

  test('the same content under another name is known, other content under the same name is not', async () => {
    put('a.csv', table(10));
    start();
    await until(settled(1));
    put('b.csv', table(10));
    put('c.csv', table(11));
    await until(settled(3));
    put('c.csv', table(12));
    await until(settled(4));
    expect(journal.readings).toHaveLength(10 + 11 + 12);
    expect(readdirSync(path.join(directory, 'done'))).toHaveLength(4);
  });

  test('what is durable before a stop is not stored again after it', async () => {
    journal.automatic = false;
    put('a.csv', table(5_000));
    const first = start();
    await until(() => journal.uncommitted === 1);
    journal.commit();
    await until(() => journal.uncommitted === 1);
    const stopping = first.stop();
    journal.commit();
    await stopping;
    const before = journal.readings.length;
    expect(before).toBeGreaterThan(0);
    expect(before).toBeLessThan(5_000);
    journal.automatic = true;
    start();
    await until(settled(1));
    expect(journal.readings.map(({ value }) => value)).toEqual(Array.from({ length: 5_000 }, (_, index) => index));
  });

  test('a crash between the last piece and the rename is made up for', async () => {
    put('a.csv', table(10));
    start();
    await until(settled(1));
    put('a.csv', readFileSync(path.join(directory, 'done', 'a.csv')));
    rmSync(path.join(directory, 'done'), { recursive: true });
    await until(settled(2));
    expect(journal.readings).toHaveLength(10);
    expect(readdirSync(path.join(directory, 'done'))).toEqual(['a.csv']);
  });

  test('a journal that cannot is asked again; a file that changes meanwhile fails', async () => {
    journal.automatic = false;
    put('a.csv', table(10));
    start();
    await until(() => journal.uncommitted === 1);
    journal.commit(new SluiceError('ERR_JOURNAL_FULL', 'full'));
    await until(() => journal.uncommitted === 1);
    journal.commit();
    await until(settled(1));
    expect(journal.readings).toHaveLength(10);
    put('b.csv', table(5_000));
    await until(() => journal.uncommitted === 1);
    appendFileSync(path.join(directory, 'b.csv'), '1,d1,1\n');
    journal.commit();
    await until(settled(2));
    expect(json('failed', 'b.csv.error.json')).toMatchObject({ code: 'ERR_SOURCE_FILE' });
  });

  test('kill -9 in the middle of a file loses and doubles no row', { timeout: 120_000 }, async () => {
    const rows = 60_000;
    put('big.csv', table(rows));
    const config = path.join(directory, '.gateway.yaml');
    writeFileSync(
      config,
      JSON.stringify({
        dataDir: path.join(directory, '.data'),
        mqtt: { port: 0, wsPort: null },
        http: { port: 0 },
        hostMetrics: { enabled: false },
        sources: { folders: [{ name: 'drop', directory, settleMs: 0, pollIntervalMs: 100 }] },
      }),
    );
    interface Status {
      readonly sources: readonly { readonly files_done: number }[];
      readonly backlog: { readonly readings: number };
    }
    const run = async (): Promise<() => Promise<Status>> => {
      const gateway = spawn('node', [MAIN, '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
      child = gateway;
      for await (const line of createInterface({ input: gateway.stderr })) {
        if (!line.includes('gateway is ready')) continue;
        const { httpPort } = JSON.parse(line) as { httpPort: number };
        return async () => (await (await fetch(`http://127.0.0.1:${httpPort}/v1/status`)).json()) as Status;
      }
      throw new Error('the gateway ended');
    };
    let status = await run();
    const before = (await status()).backlog.readings;
    await until(async () => (await status()).backlog.readings > before);
    const now = (await status()).backlog.readings;
    expect(now).toBeLessThan(rows);
    const victim = child as unknown as ChildProcess;
    const gone = new Promise((resolve) => victim.once('exit', resolve));
    victim.kill('SIGKILL');
    await gone;
    status = await run();
    await until(async () => existsSync(path.join(directory, 'done', 'big.csv')));
    expect((await status()).backlog.readings).toBe(rows);
  });
});
