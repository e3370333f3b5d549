import { pathToFileURL } from 'node:url';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const repositoryRoot = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

/**
 * Where a worker's JavaScript stands.
 *
 * Built code finds it beside itself. Under vitest this module runs from its TypeScript source, which Node 20 cannot
 * load in a worker, so there the worker comes from the build in dist/ (`npm test` builds first).
 *
 * @param importMetaUrl `import.meta.url` of the caller
 * @param name file beside the caller, without extension: './journal-worker'
 */
export function workerUrl(importMetaUrl: string, name: string): URL {
  if (!importMetaUrl.endsWith('.ts')) return new URL(`${name}.js`, importMetaUrl);
  const source = fileURLToPath(new URL(`${name}.js`, importMetaUrl));
  return pathToFileURL(path.join(repositoryRoot, 'dist', path.relative(repositoryRoot, source)));
}
