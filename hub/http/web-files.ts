/**
 * The page's files, as the build has put them into one flat folder.
 *
 * Open to everybody who reaches the port: they are the same in every installation, the data is behind /v1. A file is read
 * when it is first asked for and again when it has changed; the cache is bounded by what the folder holds.
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Context } from 'hono';
import { errorMessage, SluiceError } from '../../shared/errors.ts';
import { workerUrl } from '../../shared/worker-url.ts';
import type { HubApp, HubEnv } from './service.ts';

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
  png: 'image/png',
  ico: 'image/x-icon',
  webmanifest: 'application/manifest+json',
};

/** The scripts of the two pages: the build's own scripts and tests lie beside them. */
const SCRIPTS: readonly string[] = ['app.js', 'docs-page.js', 'swagger-ui-bundle.js'];
const FILE_BYTES_MAX = 4_000_000;

const PAGE_HEADERS = {
  // Everything from here and nothing else: the page works with no internet and loads no stranger's code.
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  // Always asked for again, answered 304 while nothing changed: an upgrade of the hub shows at once.
  'cache-control': 'no-cache',
};

interface CachedFile {
  readonly mtimeMs: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly etag: string;
}

/** `web` beside the built hub; under vitest that of the build. */
function builtWebDir(): string {
  return path.join(path.dirname(fileURLToPath(workerUrl(import.meta.url, './web-files'))), '..', 'web');
}

class WebFiles {
  readonly #directory: string;
  #cache = new Map<string, CachedFile>();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** null: there is no such file. */
  async answer(c: Context<HubEnv>, name: string): Promise<Response | null> {
    const type = TYPES[name.slice(name.lastIndexOf('.') + 1)];
    if (type === undefined || (name.endsWith('.js') && !SCRIPTS.includes(name))) return null;
    const file = await this.#read(name);
    if (file === null) return null;
    const headers = { ...PAGE_HEADERS, etag: file.etag };
    // `W/` is what compression makes of the tag (RFC 9110, 8.8.3).
    const known = (c.req.header('if-none-match') ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''));
    if (known.includes(file.etag)) return c.body(null, 304, headers);
    return c.body(file.bytes, 200, { ...headers, 'content-type': type });
  }

  async #read(name: string): Promise<CachedFile | null> {
    const file = path.join(this.#directory, name);
    try {
      const { mtimeMs, size } = await stat(file);
      const cached = this.#cache.get(name);
      if (cached?.mtimeMs === mtimeMs) return cached;
      if (size > FILE_BYTES_MAX) return null;
      const bytes = new Uint8Array(await readFile(file));
      const read = { mtimeMs, bytes, etag: `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"` };
      this.#cache.set(name, read);
      return read;
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'EISDIR') return null;
      throw new SluiceError('ERR_HTTP_INTERNAL', `a file of the page cannot be read: ${errorMessage(cause)}`, { cause });
    }
  }
}

export function mountWebFiles(app: HubApp, directory: string = builtWebDir()): void {
  const files = new WebFiles(directory);
  app.get(
    '/',
    async (c) => (await files.answer(c, 'index.html')) ?? c.text('The page is not built; the API is at /v1 and /openapi.json.\n', 404),
  );
  app.get('/docs', async (c) => (await files.answer(c, 'docs.html')) ?? c.notFound());
  // One flat folder, names without a path: nothing outside of it can be named.
  app.get('/:file{[A-Za-z0-9][A-Za-z0-9._-]{0,63}}', async (c) => (await files.answer(c, c.req.param('file'))) ?? c.notFound());
}
