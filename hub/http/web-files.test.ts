import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { OpenAPIHono } from '@hono/zod-openapi';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { mountWebFiles } from './web-files.ts';
import type { HubApp, HubEnv } from './service.ts';

let directory: string;
let app: HubApp;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'sluice-web-'));
  writeFileSync(path.join(directory, 'index.html'), '<!doctype html>');
  writeFileSync(path.join(directory, 'app.js'), 'const a = 1;');
  writeFileSync(path.join(directory, 'uPlot.min.css'), 'a{}');
  writeFileSync(path.join(directory, 'secret.txt'), 'x');
  writeFileSync(path.join(directory, 'copy-assets.js'), 'x');
  app = new OpenAPIHono<HubEnv>();
  mountWebFiles(app, directory);
});
afterEach(() => rmSync(directory, { recursive: true }));

test.each([
  ['/', 'text/html; charset=utf-8', '<!doctype html>'],
  ['/app.js', 'text/javascript; charset=utf-8', 'const a = 1;'],
  ['/uPlot.min.css', 'text/css; charset=utf-8', 'a{}'],
])('%s is served with its type and a policy that loads nothing from elsewhere', async (url, type, text) => {
  const response = await app.request(url);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe(type);
  const policy = response.headers.get('content-security-policy') ?? '';
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toMatch(/unsafe|https?:|\*/);
  expect(await response.text()).toBe(text);
});

test('an unchanged file is not sent again, a changed one is', async () => {
  const first = await app.request('/app.js');
  const etag = first.headers.get('etag') ?? '';
  for (const tag of [etag, `W/${etag}`, `"other", ${etag}`])
    expect((await app.request('/app.js', { headers: { 'if-none-match': tag } })).status).toBe(304);
  writeFileSync(path.join(directory, 'app.js'), 'const a = 2;');
  utimesSync(path.join(directory, 'app.js'), 1, 1);
  const second = await app.request('/app.js', { headers: { 'if-none-match': etag } });
  expect(await second.text()).toBe('const a = 2;');
});

test('nothing but the files of the page can be had', async () => {
  for (const url of [
    '/secret.txt',
    '/copy-assets.js',
    '/missing.js',
    '/..%2fapp.js',

    '/.hidden.js',
    '/app.js/',
    '/app.js%00',
    `/${'a'.repeat(5_000)}.js`,
    '/x/../../app.js.map',
  ]) {
    expect((await app.request(url)).status, url).toBe(404);
  }
});

test('without a build the root says so', async () => {
  rmSync(path.join(directory, 'index.html'));
  const response = await app.request('/');
  expect(response.status).toBe(404);
  expect(await response.text()).toContain('not built');
});
