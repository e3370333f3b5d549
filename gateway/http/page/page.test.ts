/** The page in a real browser, over answers as the gateway gives them. */
import { existsSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { PAGE, PAGE_HEADERS } from './page.ts';

const CHROMIUM = '/usr/bin/chromium';
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
];
const hasChromium = existsSync(CHROMIUM);
if (!hasChromium) console.warn(`page.test.ts is skipped: there is no ${CHROMIUM} (Debian: apt install chromium)`);

const HOSTILE = '<img src=x onerror="document.title=1">';
const NOW_US = 1_700_000_000_000_000;

/** What every gateway tells; the rest depends on what it has. */
const LEAN = {
  version: '0.1.0',
  time_us: NOW_US,
  uptime_seconds: 60,
  epoch: '0123456789abcdef',
  lake_id: null,
  clock: { state: 'known' },
  backlog: { readings: 12, bytes: 100, exceptions: 0, oldest_us: NOW_US - 5e6 },
  exceptions: { waiting: 0 },
  lanes: [],
  uplink: null,
  journal: { accepting: true, used_bytes: 1e6, allowed_bytes: 2e6, unsealed_readings: 0, batches: 1, commit_ms_mean: null },
  series: { count: 1, max: 10 },
  ingest: { messages: 1, readings: 1, redeliveries: 0, refused: 0 },
  broker: { connections: 1, authentications_failed: 0 },
};

const RICH = {
  ...LEAN,
  clock: {
    state: 'known',
    devices: [{ device: HOSTILE, ahead_us: -60e6, applied_us: 0 }],
    events: [{ at_us: NOW_US, kind: 'step', source: 'ntp', step_us: 5e6 }],
  },
  uplink: {
    status: 'unreachable',
    gateway: HOSTILE,
    last_committed_us: 0,
    last_error: { code: 'ERR_UPLINK_CONNECT', message: HOSTILE, at_us: NOW_US },
    reconnects: 1,
    bytes_sent: 1,
    batches_sent: 1,
    retry_in_ms: 500,
  },
  lanes: [{ lane: 'live', epoch: 'abcdef0123', state: 'open', base: 1, assigned: 5, committed: 3, in_flight_bytes: 10 }],
  exceptions: { waiting: 0, losses: [{ reason: 'buffer_full', readings: 1_000 }] },
  flash: { device: 'mmcblk0', is_card: true, bytes_per_day: 1e9, bytes_per_day_max: 2e9, life_years: 7, delay_ms: 0 },
  sources: [{ kind: 'mqtt', name: 'plant', state: 'waiting', since_us: NOW_US, messages: 1, in_flight: 0, last_error: HOSTILE }],
  recent_problems: [{ code: 'ERR_DECODE_TIME', topic: HOSTILE, message: HOSTILE, count: 2, last_us: NOW_US }],
  unmatched_topics: [{ suggested_match: HOSTILE, suggested_preset: null, example: 'x/'.repeat(200), messages: 3 }],
};

const DEVICES = {
  time_us: NOW_US,
  count: 2,
  devices: [HOSTILE, 'a-long-name-'.repeat(20)].map((device) => ({ device, series: 1, readings: 5, last_us: NOW_US })),
};

describe.skipIf(!hasChromium)('the page', () => {
  let browser: Browser;
  let server: Server;
  let url: string;
  let status: unknown = LEAN;
  let page: Page | null = null;
  let faults: string[];

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
    server = createServer((request, response) => {
      const path = (request.url ?? '').split('?');
      if (path[0] === '/') return void response.writeHead(200, { ...PAGE_HEADERS, 'content-type': 'text/html; charset=utf-8' }).end(PAGE);
      const series = [{ metric: 'temperature', tags: { [HOSTILE]: 'x' }, readings: 1, last_us: NOW_US, last_value: 21.5 }];
      const answer = path[0] === '/v1/status' ? status : path[1] === undefined ? DEVICES : { time_us: NOW_US, series };
      if (answer === null) response.writeHead(503).end('{"detail":"stopping"}');
      else response.end(JSON.stringify(answer));
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  });
  afterEach(async () => {
    await page?.close();
    page = null;
  });
  afterAll(async () => {
    await browser.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  async function open(answer: unknown, standingClock = false): Promise<Page> {
    status = answer;
    faults = [];
    page = await browser.newPage({ viewport: { width: 390, height: 844 } });
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (line) => {
      if (line.type() === 'error') faults.push(line.text());
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(url) && !request.url().startsWith('data:')) faults.push(`asks ${request.url()}`);
    });
    if (standingClock) await page.clock.install();
    await page.goto(url);
    await page.getByRole('button', { name: 'a-long-name' }).waitFor();
    return page;
  }

  test('shows what is there and leaves out what is not, under its own content security policy and without any other request', async () => {
    const opened = await open(LEAN);
    await expect.poll(() => opened.locator('#state').textContent()).toContain('No hub is configured');
    expect(await opened.locator('#flash-card').isVisible()).toBe(false);
    expect(await opened.locator('#buffer').textContent()).toBe('50 %');
    expect(faults).toEqual([]);
  });

  test('names from devices are text, long ones stay within the width of a phone, and a device opens to its last values', async () => {
    const opened = await open(RICH);
    await expect.poll(() => opened.locator('#state').textContent()).toContain('No connection to the hub');
    await opened.getByRole('button', { name: 'a-long-name' }).click();
    await opened.getByText('21.5').waitFor();
    expect(await opened.locator('img').count()).toBe(0);
    expect(await opened.locator('#problems').textContent()).toContain(HOSTILE);
    expect(await opened.locator('#losses').textContent()).toContain('1,000');
    expect(await opened.locator('#clock-devices').textContent()).toContain('−60 s');
    expect(await opened.locator('#clock-events').textContent()).toContain('step, ntp+5 s');
    expect(await opened.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')).toBe(0);
    expect(faults).toEqual([]);
  });

  test('says that the gateway does not answer, and goes on when it does', async () => {
    const opened = await open(LEAN, true);
    status = null;
    await opened.clock.runFor(2_100);
    await expect.poll(() => opened.locator('#state').textContent()).toContain('does not answer');
    status = LEAN;
    await opened.clock.runFor(2_100);
    await expect.poll(() => opened.locator('#state').textContent()).toContain('No hub is configured');
  });
});
