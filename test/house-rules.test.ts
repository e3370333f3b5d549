import { describe, expect, test } from 'vitest';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ERRORS } from '../shared/errors.ts';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const COMPONENTS = ['shared', 'gateway', 'hub', 'firmware-sim', 'test'] as const;

interface Source {
  /** Relative to the repository, '/'-separated. */
  readonly file: string;
  readonly text: string;
  readonly imports: readonly string[];
}

function sources(): Source[] {
  const found: Source[] = [];
  for (const component of COMPONENTS) {
    for (const entry of readdirSync(path.join(root, component), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !entry.name.endsWith('.ts')) continue;
      const absolute = path.join(entry.parentPath, entry.name);
      const text = readFileSync(absolute, 'utf8');
      const imports = [...text.matchAll(/^\s*(?:import|export)\s[^;]*?from\s+'([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gms)].map(
        (match) => match[1] ?? match[2] ?? match[3],
      );
      found.push({ file: path.relative(root, absolute).split(path.sep).join('/'), text, imports });
    }
  }
  return found;
}

const all = sources();
const product = all.filter(({ file }) => !file.startsWith('test/') && !/\.(test|fixture|contract|arbitrary|race)\.ts$/.test(file));

/** The folder or file that alone imports a package; everything else asks it. */
const HOMES: Readonly<Record<string, readonly string[]>> = {
  aedes: ['gateway/broker/'],
  'better-sqlite3': ['gateway/journal/'],
  '@prometheus-io/lezer-promql': ['hub/promql/'],
  mqtt: ['firmware-sim/', 'gateway/sources/'],
  '@duckdb/node-api': ['hub/query/'],
  hyparquet: ['hub/lake/parquet/', 'firmware-sim/verify/'],
  protobufjs: ['gateway/decode/remote-write.ts'],
  'node-cron': ['hub/maintenance-worker.ts', 'hub/config.ts'],
  pino: ['shared/logging.ts'],
  'prom-client': ['shared/metrics.ts'],
  yaml: ['shared/config.ts'],
  ws: ['gateway/uplink/', 'gateway/broker/', 'hub/ingest/'],
  esbuild: ['shared/package/'],
  undici: ['firmware-sim/', 'gateway/'],
  // verify reads the lake without any code of the writer's
  '@cloudpss/zstd': ['shared/batch/compression.ts', 'firmware-sim/verify/'],
};

function componentOf(file: string): string {
  return file.split('/')[0] ?? '';
}

describe('the house rules', () => {
  test('are checked on the whole source, not on a part of it', () => {
    expect(all.length).toBeGreaterThan(150);
    expect(all.flatMap(({ imports }) => imports).length).toBeGreaterThan(600);
    for (const component of COMPONENTS)
      expect(all.filter(({ file }) => componentOf(file) === component).length, component).toBeGreaterThan(10);
  });

  test('components import from shared and never from one another; shared imports from none of them', () => {
    const wrong = product.flatMap(({ file, imports }) =>
      imports
        .filter((name) => name.startsWith('.'))
        .map((name) => path.posix.normalize(path.posix.join(path.posix.dirname(file), name)))
        .filter((target) => componentOf(target) !== componentOf(file) && componentOf(target) !== 'shared' && target !== 'package.json')
        .map((target) => `${file} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test('each outside package is imported in its home alone', () => {
    const wrong = product.flatMap(({ file, imports }) =>
      imports.flatMap((name) => {
        const home = Object.entries(HOMES).find(([packageName]) => name === packageName || name.startsWith(`${packageName}/`))?.[1];
        return home === undefined || home.some((folder) => file.startsWith(folder))
          ? []
          : [`${file} imports ${name}, whose home is ${home.join(', ')}`];
      }),
    );
    expect(wrong).toEqual([]);
  });

  test('relative imports name the file with its extension, and nothing exports everything or a default', () => {
    const wrong = product.flatMap(({ file, text, imports }) => [
      ...imports.filter((name) => name.startsWith('.') && !/\.(ts|json|css)$/.test(name)).map((name) => `${file}: import of ${name}`),
      ...(/^export \*/m.test(text) ? [`${file}: export *`] : []),
      ...(/^export default/m.test(text) ? [`${file}: export default`] : []),
    ]);
    expect(wrong).toEqual([]);
  });

  test('durations, times and sizes of settings carry their unit', () => {
    const suspicious =
      /\b(?:timeout|interval|delay|age|retention|deadline|budget)(?!\w*(?:Ms|Us|Seconds|Hours|Days|Bytes|PerSecond|At|Max|Min))\s*:\s*z\./gi;
    const wrong = product
      .filter(({ file }) => file.endsWith('config.ts') && !file.startsWith('firmware-sim/'))
      .flatMap(({ file, text }) => [...text.matchAll(suspicious)].map((match) => `${file}: ${match[0]}`));
    expect(wrong).toEqual([]);
  });

  test('nothing is left to do without a reason', () => {
    const wrong = all
      .filter(({ file }) => file !== 'test/house-rules.test.ts')
      .flatMap(({ file, text }) =>
        [...text.matchAll(/\b(?:TODO|FIXME|XXX|HACK)\b.*/g)]
          .filter((match) => !match[0].includes('because'))
          .map((match) => `${file}: ${match[0]}`),
      );
    expect(wrong).toEqual([]);
  });

  test('every error code of the source is in the table, every code of the table is used, and docs/errors.md lists them all', () => {
    const used = new Set(
      product
        .filter(({ file }) => file !== 'shared/errors.ts')
        .flatMap(({ text }) => text.match(/\bERR_[A-Z0-9]+(?:_[A-Z0-9]+)+\b/g) ?? []),
    );
    // Node's own codes look the same; the table has none of them.
    const foreign = [...used].filter((code) => !(code in ERRORS));
    const nodeCodes = /^ERR_(?:INVALID|MODULE|OUT_OF|BUFFER|STREAM|SSL|TLS|HTTP_SOCKET|SOCKET|WORKER|DLOPEN|STRING_TOO_LONG|FS)/;
    expect(foreign.filter((code) => !nodeCodes.test(code) && !code.endsWith('_'))).toEqual([]);
    expect(Object.keys(ERRORS).filter((code) => !used.has(code))).toEqual([]);
    const page = readFileSync(path.join(root, 'docs/errors.md'), 'utf8');
    expect(Object.keys(ERRORS).filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
    expect((page.match(/`ERR_[A-Z0-9_]+`/g) ?? []).map((code) => code.slice(1, -1)).filter((code) => !(code in ERRORS))).toEqual([]);
  });
});
