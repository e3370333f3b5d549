/** The page in a real browser, over the real API, engine and query worker. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { getRequestListener } from '@hono/node-server';
import { build } from 'esbuild';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Hello } from '../../shared/uplink.ts';
import { EPOCH, laneOf } from '../engine.fixture.ts';
import { createHubApp } from '../http/app.ts';
import { ApiFixture } from '../http/app.fixture.ts';
import { copyAssets } from './assets.ts';

const CHROMIUM = '/usr/bin/chromium';
const CHROMIUM_FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const hasChromium = existsSync(CHROMIUM);
if (!hasChromium) console.warn(`page.test.ts is skipped: there is no ${CHROMIUM} (Debian: apt install chromium)`);

const SECOND_US = 1_000_000;
const MINUTE_US = 60 * SECOND_US;
const repositoryRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

let api: ApiFixture;
let server: Server;
let url: string;
let browser: Browser;
let webDir: string;
/** The hub's clock runs as the browser's does. */
let clockTimer: NodeJS.Timeout;

async function listen(port: number): Promise<void> {
  const app = createHubApp({ ...api.services, webDir });
  const answer = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  server = createServer((incoming, outgoing) => void answer(incoming, outgoing));
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

async function close(): Promise<void> {
  const closed = new Promise((resolve) => server.close(resolve));
  server.closeAllConnections();
  await closed;
}

function gatewayArrives(): void {
  const nowUs = api.clock.nowUs();
  const hello: Hello = {
    type: 'hello',
    gatewayVersion: '0.1.0',
    wireVersions: [1],
    lakeId: null,
    epoch: EPOCH,
    lane: 'live',
    lanes: [{ epoch: EPOCH, lane: 'live', base: 1, assigned: 2 }],
    backlog: { readings: 1234, bytes: 5000, exceptions: 0, oldestUs: nowUs - 7 * SECOND_US },
    clock: { state: 'known', wallUs: nowUs },
  };
  api.gateways.hello('north', hello, nowUs);
  api.gateways.laneConnected(laneOf('north'), { received: 2, committed: 1, status: 'open' }, nowUs);
}

interface OpenPage {
  readonly page: Page;
  /** Errors and warnings of the console, CSP reports among them, and exceptions. */
  readonly complaints: string[];
}

async function openPage(hash = '', viewport = { width: 1280, height: 900 }): Promise<OpenPage> {
  const page = await browser.newPage({ viewport });
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(url + hash);
  return { page, complaints };
}

// What runs inside the page is text: the types of this program know no DOM, and should not.

/** Pixels of the chart that have the colour of its first line. */
const LINE_PIXELS = `(() => {
  const canvas = document.querySelector('#chart canvas');
  if (canvas === null) return 0;
  const colour = getComputedStyle(document.documentElement).getPropertyValue('--line-1').trim();
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let at = 0; at < data.length; at += 4) if (data[at] === red && data[at + 1] === green && data[at + 2] === blue) count++;
  return count;
})()`;

/** Controls that nobody who does not see them can tell. */
const UNNAMED_CONTROLS = `[...document.querySelectorAll('button, input, select, a')]
  .filter((element) => element.checkVisibility())
  .filter((element) => element.textContent.trim() === '' && (element.labels?.length ?? 0) === 0)
  .map(({ outerHTML }) => outerHTML)`;

beforeAll(async () => {
  if (!hasChromium) return;
  webDir = mkdtempSync(path.join(tmpdir(), 'sluice-web-'));
  copyAssets(repositoryRoot, webDir);
  const entry = path.join(repositoryRoot, 'hub/web/app/main.ts');
  await build({ entryPoints: [entry], bundle: true, target: 'es2022', format: 'esm', outfile: path.join(webDir, 'app.js') });
  api = await ApiFixture.start();
  clockTimer = setInterval(() => api.clock.advance(SECOND_US / 10), 100);
  await listen(0);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_FLAGS });
});

afterAll(async () => {
  if (!hasChromium) return;
  await browser.close();
  clearInterval(clockTimer);
  await close();
  await api.stop();
  rmSync(webDir, { recursive: true, force: true });
});

describe.skipIf(!hasChromium)('the page', () => {
  test('says how to send the first reading to a hub that has none, and shows it when it comes', async () => {
    const { page, complaints } = await openPage();
    await page.getByText('No readings yet').waitFor();
    expect(await page.textContent('#empty-command')).toContain('mosquitto_pub -h localhost -p 1883 -q 1 -t devices/');
    const nowUs = api.clock.nowUs();
    gatewayArrives();
    await api.commit('north', nowUs - 4 * MINUTE_US, 180, 20);
    api.watermark('north', nowUs - 2 * MINUTE_US);
    await page.getByRole('heading', { name: 'temperature' }).waitFor({ timeout: 15_000 });
    expect(await page.isVisible('#empty')).toBe(false);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('shows gateways with lag, backlog and lanes, draws the metric that is picked, and names what is open', async () => {
    const { page, complaints } = await openPage('#metric=nothing-has-this-name&window=10s');
    await page.getByText('No readings of nothing-has-this-name').waitFor();
    await page.getByRole('combobox', { name: 'Metric' }).click();
    await page.keyboard.type('TEMP');
    await page.keyboard.press('Enter');
    await page.locator('#windows-rows tr').first().waitFor();
    await expect.poll(() => page.evaluate<number>(LINE_PIXELS)).toBeGreaterThan(200);
    expect(await page.getAttribute('#chart', 'aria-label')).toContain('Chart of temperature: mean of 10 s windows');
    const statuses = await page.locator('#windows-rows tr td:nth-child(2)').allTextContents();
    expect(statuses[0]).toContain('provisional');
    const row = await page.locator('#gateways-rows').getByRole('row', { name: 'north' }).textContent();
    expect(row).toContain('connected');
    expect(row).toContain('1,234 readings');
    expect(row).toContain('live 1 / 2');
    await page.getByText('Live', { exact: true }).waitFor();
    expect(new URL(page.url()).hash).toContain('metric=temperature&');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('draws a reading that arrives, by the stream, before it is committed', async () => {
    const { page } = await openPage('#metric=temperature&window=10s');
    await page.locator('#windows-rows tr').first().waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    await api.submit('north', api.clock.nowUs() - 2 * SECOND_US, 1, 4321);
    // The whole is loaded again every 30 s only: in less it can but be the stream.
    await page.locator('#windows-rows').getByText('4,321').first().waitFor({ timeout: 8_000 });
    await page.close();
  });

  test('shows an exception and marks the windows that miss its readings', async () => {
    const fromUs = api.clock.nowUs() - 3 * MINUTE_US;
    const gap = { kind: 'gap', device: 'pump-1', metric: 'temperature', fromUs, toUs: fromUs + 5 * SECOND_US, readingCount: 5 } as const;
    await api.commit('north', api.clock.nowUs() - SECOND_US, 1, 20, [{ ...gap, reason: 'buffer_full: dropped_oldest <b>', payload: null }]);
    const { page, complaints } = await openPage('#metric=temperature&window=1m');
    const row = page.locator('#exceptions-rows tr').first();
    await row.waitFor();
    expect(await row.textContent()).toContain('buffer full: dropped_oldest <b>');
    expect(await row.textContent()).toContain('gap');
    await expect.poll(() => page.locator('#windows-rows td:last-child').allTextContents()).toContain('5');
    expect(complaints).toEqual([]);
    await page.close();
  });

  test('shows what fires above everything else: rule, series, value against its bound, since when; the series leads to its chart', async () => {
    const rule = { kind: 'threshold', window: '1m', above: -1, severity: 'critical', summary: 'Call <b>', metric: ['temperature'] };
    const request = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(rule) };
    expect((await api.app.request('/v1/alerts/rules/warm', request)).status).toBe(201);
    await api.alerts.evaluate();
    const { page, complaints } = await openPage('#metric=nothing-has-this-name&window=10s', { width: 360, height: 740 });
    const row = page.locator('#alerts-rows tr').first();
    await row.waitFor();
    const text = await row.textContent();
    for (const part of ['warm', 'Call <b>', 'firing', 'critical', 'pump-1', 'north', 'mean of 1m above -1']) expect(text).toContain(part);
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360);
    await row.getByRole('link', { name: 'temperature' }).click();
    await page.getByRole('heading', { name: 'temperature' }).waitFor();
    expect(complaints).toEqual([]);
    await page.close();
    await api.app.request('/v1/alerts/rules/warm', { method: 'DELETE' });
  });

  test('has names for controls and regions, and no sideways scrolling on a phone', async () => {
    const { page } = await openPage('#metric=temperature&window=10s', { width: 360, height: 740 });
    await page.locator('#windows-rows tr').first().waitFor();
    await page.locator('#gateways-rows tr').first().waitFor();
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360);
    const tree = await page.locator('body').ariaSnapshot();
    expect(tree).toMatch(/heading "Sluice hub" \[level=1\]/);
    for (const heading of ['temperature', 'Gateways', 'Exceptions', 'The same over HTTP'])
      expect(tree).toContain(`heading "${heading}" [level=2]`);
    for (const control of ['combobox "Metric"', 'group "Lines"', 'radio "10 s" [checked]', 'combobox "Range"', 'link "Download CSV"'])
      expect(tree).toContain(control);
    // Stacked on a phone, still a table to those who hear it.
    expect(tree).toContain('rowheader "north"');
    expect(await page.evaluate<string[]>(UNNAMED_CONTROLS)).toEqual([]);
    await page.close();
  });

  test('says that the hub is gone, keeps what it has shown, and goes on by itself', async () => {
    const { page } = await openPage('#metric=temperature&window=10s');
    await page.getByText('Live', { exact: true }).waitFor();
    const { port } = server.address() as AddressInfo;
    await close();
    await page.getByRole('alert').getByText('does not answer').waitFor({ timeout: 15_000 });
    expect(await page.locator('#windows-rows tr').count()).toBeGreaterThan(0);
    await listen(port);
    await page.getByText('Live', { exact: true }).waitFor({ timeout: 20_000 });
    expect(await page.isVisible('#banner')).toBe(false);
    await page.close();
  });

  test('asks for a read token, says when it is wrong, and keeps it for the tab alone', async () => {
    const token = await api.token('read');
    // The hub looks for new tokens from time to time.
    api.clock.advance(10 * MINUTE_US);
    const { page } = await openPage();
    const field = page.getByRole('textbox', { name: 'Read token' });
    await field.fill('not-a-token');
    await page.keyboard.press('Enter');
    await page.getByText('The hub does not know this token.').waitFor();
    await field.fill(token);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'temperature' }).waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
    expect(await page.textContent('#curl-line')).toContain('-H "Authorization: Bearer $SLUICE_TOKEN"');
    await page.reload();
    await page.getByRole('heading', { name: 'temperature' }).waitFor();
    expect(await page.evaluate<unknown>('[localStorage.length, document.cookie]')).toEqual([0, '']);
    await page.close();
  });
});
