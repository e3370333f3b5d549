/**
 * `npm run package:hub [-- --arch amd64|arm64]`: the hub's Debian package, in build/packages.
 *
 * Inside: Node, the hub with a file per thread and process, DuckDB for the processor as npm has it, the page.
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { runCli } from '../../shared/cli.ts';
import { packageLicense, type Replacement } from '../../shared/package/bundle.ts';
import type { DebFile } from '../../shared/package/deb.ts';
import { lockedPackage, npmPackage } from '../../shared/package/npm-package.ts';
import { packageCommand, type BuildContext } from '../../shared/package/program-package.ts';
import { repositoryRoot } from '../../shared/package/tools.ts';

const NAME = 'sluice-hub';

/** Only what the hub reaches with the package's own Node. */
const EXTERNAL = ['@cloudpss/zstd/napi', 'msgpackr-extract', 'bufferutil', 'utf-8-validate'];

const REPLACED: Readonly<Record<string, Replacement>> = {
  '@duckdb/node-bindings': { code: "module.exports = require(require('node:path').join(__dirname, 'duckdb.node'));", resolveDir: '.' },
};

const DESCRIPTION = [
  'Takes batches of readings from Sluice gateways, commits them to open Delta',
  'tables exactly once, computes windowed aggregates, and answers over HTTP and',
  'SQL. Brings its own Node runtime and DuckDB; 64-bit only.',
];

const MANUAL = {
  summary: 'writes an open lake from the batches of gateways, and answers over HTTP',
  body: [
    '.B sluice\\-hub',
    'runs as the service sluice\\-hub.service with the configuration /etc/sluice/hub.yaml.',
    'On the command line:',
    '.TP\n.B token create \\-\\-enroll NAME\nmakes the token with which a gateway enrolls, once',
    '.TP\n.B token create \\-\\-read\nmakes a token for reading over HTTP',
    '.TP\n.B token list, token revoke ID\nshows and takes back tokens',
    '.PP\nCommands run as the user sluice\\-hub where root calls them.',
    '.B sluice\\-hub \\-\\-help\nlists all of them.',
  ].join('\n'),
};

/** Whatever runs in a thread or process of its own: the name says so. */
function entries(root: string): Record<string, string> {
  const apart = readdirSync(path.join(root, 'hub'), { recursive: true, encoding: 'utf8' })
    .filter((file) => /-(?:worker|process)\.ts$/.test(file))
    .map((file) => [path.basename(file, '.ts'), `hub/${file}`]);
  return { main: 'hub/main.ts', ...(Object.fromEntries(apart) as Record<string, string>) };
}

function duckdb({ root, target, cacheDir }: BuildContext): Promise<string> {
  return npmPackage(lockedPackage(root, `@duckdb/node-bindings-linux-${target.cpu}`), cacheDir);
}

/** The page as the build makes it: without what only makes or tests it. */
function pageFiles({ root }: BuildContext): DebFile[] {
  const webDir = path.join(root, 'dist/hub/web');
  return readdirSync(webDir, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\.(?:map|test\.js)$/.test(entry.name) && !/^(?:copy-)?assets\.js$/.test(entry.name))
    .map(({ name }) => ({ target: `/usr/lib/${NAME}/web/${name}`, mode: 0o644, file: path.join(webDir, name) }));
}

const program = packageCommand({
  name: NAME,
  component: 'hub',
  stateDir: '/var/lib/sluice-hub',
  entries: entries(repositoryRoot()),
  replaced: REPLACED,
  external: EXTERNAL,
  nativeFiles: duckdbFiles,
  nativeLicenses: async (context) => [packageLicense(await duckdb(context))],
  extraFiles: pageFiles,
  unit: (template) => template,
  summary: 'lakehouse hub for telemetry: exactly once into open tables',
  description: DESCRIPTION,
  manual: MANUAL,
});

async function duckdbFiles(context: BuildContext): Promise<string[]> {
  const directory = await duckdb(context);
  return ['duckdb.node', 'libduckdb.so'].map((file) => path.join(directory, file));
}

await runCli(program, process.argv);
