import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { getRequestListener } from '@hono/node-server';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { expect, test } from 'vitest';
import { createHubApp } from '../http/app.ts';
import { ApiFixture } from '../http/app.fixture.ts';
import { copyAssets } from './assets.ts';

const CHROMIUM = '/usr/bin/chromium';
const repositoryRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

test.skipIf(!existsSync(CHROMIUM))('the reference shows every route, and asks nobody but the hub', async () => {
  const webDir = mkdtempSync(path.join(tmpdir(), 'sluice-docs-'));
  copyAssets(repositoryRoot, webDir);
  await build({
    entryPoints: [path.join(repositoryRoot, 'hub/web/docs-page.ts')],
    format: 'esm',
    outfile: path.join(webDir, 'docs-page.js'),
  });
  const api = await ApiFixture.start();
  const answer = getRequestListener(createHubApp({ ...api.services, webDir }).fetch, { overrideGlobalObjects: false });
  const server = createServer((incoming, outgoing) => void answer(incoming, outgoing));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--headless', '--no-sandbox', '--disable-gpu'] });
  try {
    const page = await browser.newPage();
    const foreign: string[] = [];
    const complaints: string[] = [];
    page.on('request', (request) => {
      if (!request.url().startsWith(origin) && !request.url().startsWith('data:')) foreign.push(request.url());
    });
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.goto(`${origin}/docs`);
    await page.waitForSelector('.opblock');
    const shown = await page.locator('.opblock-summary-path').allTextContents();
    const { paths } = await api.json<{ paths: Record<string, unknown> }>('/openapi.json');
    // A path has a block for each of its methods.
    expect([...new Set(shown.map((text) => text.replaceAll('\u200b', '')))].sort()).toEqual(Object.keys(paths).sort());
    expect({ foreign, complaints }).toEqual({ foreign: [], complaints: [] });
    if (process.env['SCREENSHOT'] !== undefined) await page.screenshot({ path: process.env['SCREENSHOT'], fullPage: true });
  } finally {
    await browser.close();
    server.closeAllConnections();
    server.close();
    await api.stop();
    rmSync(webDir, { recursive: true, force: true });
  }
});
