/**
 * `npm run package:gateway [-- --arch amd64|arm64]`: the gateway's Debian package, in build/packages.
 *
 * Inside: Node, the gateway in two files (main thread and journal thread), SQLite compiled for both; nothing is fetched
 * when it is installed. What was fetched or compiled is kept under build/cache, so that a second run takes seconds.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { Command, runCli } from '../../shared/cli.ts';
import { bundle, packageLicense, type Bundle, type Replacement } from '../../shared/package/bundle.ts';
import { debDocuments } from '../../shared/package/deb-documents.ts';
import { buildDeb, type BuiltDeb, type DebFile } from '../../shared/package/deb.ts';
import { nodeRuntime, type NodeRuntime } from '../../shared/package/node-runtime.ts';
import { libraryDependencies } from '../../shared/package/shared-libraries.ts';
import { NODE_VERSION, packageTarget, type PackageTarget } from '../../shared/package/target.ts';
import { repositoryRoot } from '../../shared/package/tools.ts';
import { sourceDate } from '../../shared/package/source-date.ts';
import { VERSION } from '../../shared/version.ts';
import { sqliteAddon } from './native-addon.ts';
import { renderUnit } from './unit.ts';

const NAME = 'sluice-gateway';
const LIB = `/usr/lib/${NAME}`;

/** Only what the gateway reaches with the package's own Node. */
const EXTERNAL = ['@cloudpss/zstd/napi', 'msgpackr-extract', 'bufferutil', 'utf-8-validate'];

/** What modules do to find their parts in node_modules; here everything lies beside the bundle or in it. */
const REPLACED: Readonly<Record<string, Replacement>> = {
  bindings: { code: "module.exports = (name) => require(require('node:path').join(__dirname, name));", resolveDir: '.' },
  './aedes-codec.ts': { code: "exports.aedesCodec = require('mqtt-packet');", resolveDir: 'node_modules/aedes' },
};

const DESCRIPTION = [
  'Takes readings from devices over MQTT and HTTP, acknowledges them once they are',
  'durable, keeps them through outages, and sends them to a Sluice hub exactly',
  'once. Brings its own Node runtime; 64-bit only.',
];

const MANUAL = {
  summary: 'takes telemetry from devices, never breaks an acknowledgement, sends it to a hub',
  body: [
    '.B sluice\\-gateway',
    'runs as the service sluice\\-gateway.service with the configuration /etc/sluice/gateway.yaml.',
    'On the command line:',
    '.TP\n.B enroll \\-\\-hub URL \\-\\-token TOKEN\nreceives identity and credentials from a hub, once',
    '.TP\n.B device add NAME\nmakes the credential of a device',
    '.TP\n.B doctor\nchecks configuration, disk, clock, hub, ports and power, and gives advice',
    '.PP\nCommands run as the user sluice\\-gateway where root calls them.',
    '.B sluice\\-gateway \\-\\-help\nlists all of them.',
  ].join('\n'),
};

interface Options {
  readonly target: PackageTarget;
  /** Debian revision: tells builds of one version apart. */
  readonly revision: string;
  readonly compression: 'xz' | 'gzip';
}

async function build({ target, revision, compression }: Options): Promise<BuiltDeb> {
  const root = repositoryRoot();
  const cacheDir = path.join(root, 'build/cache');
  const runtime = await nodeRuntime(target, cacheDir);
  const addon = await sqliteAddon(root, target, runtime, cacheDir);
  const appDir = path.join(root, 'build/gateway');
  rmSync(appDir, { recursive: true, force: true });
  mkdirSync(appDir, { recursive: true });
  const app = await bundle({
    root,
    entries: { main: 'gateway/main.ts', 'journal-worker': 'gateway/journal/journal-worker.ts' },
    outDir: appDir,
    replaced: REPLACED,
    external: EXTERNAL,
  });
  const version = `${VERSION}-${revision}`;
  return buildDeb(
    {
      name: NAME,
      version,
      architecture: target.architecture,
      depends: [...(await libraryDependencies(target, [runtime.program, addon])), 'adduser', 'init-system-helpers (>= 1.54)'],
      summary: 'edge gateway for telemetry: durable before it acknowledges',
      description: DESCRIPTION,
      files: await files(root, { runtime, addon, appDir, app, version }),
      conffiles: ['/etc/sluice/gateway.yaml'],
      scripts: Object.fromEntries(['postinst', 'prerm', 'postrm'].map((name) => [name, debianFile(root, name)])),
      dateSeconds: await sourceDate(root),
      compression,
    },
    path.join(root, 'build/packages'),
  );
}

interface Parts {
  readonly runtime: NodeRuntime;
  readonly addon: string;
  readonly appDir: string;
  readonly app: Bundle;
  readonly version: string;
}

async function files(root: string, { runtime, addon, appDir, app, version }: Parts): Promise<DebFile[]> {
  const manifest = `${JSON.stringify({ name: 'sluice', version: VERSION, type: 'module' })}\n`;
  return [
    { target: `${LIB}/${NAME}-node`, mode: 0o755, file: runtime.program },
    { target: `${LIB}/package.json`, mode: 0o644, content: manifest },
    { target: `${LIB}/app/main.js`, mode: 0o644, file: path.join(appDir, 'main.js') },
    { target: `${LIB}/app/journal-worker.js`, mode: 0o644, file: path.join(appDir, 'journal-worker.js') },
    { target: `${LIB}/app/better_sqlite3.node`, mode: 0o644, file: addon },
    { target: `/usr/bin/${NAME}`, mode: 0o755, content: debianFile(root, `${NAME}.sh`) },
    { target: '/etc/sluice/gateway.yaml', mode: 0o644, content: debianFile(root, 'gateway.yaml') },
    { target: `/usr/lib/systemd/system/${NAME}.service`, mode: 0o644, content: renderUnit(debianFile(root, `${NAME}.service`)) },
    {
      target: `/usr/share/doc/${NAME}/configuration.md.gz`,
      mode: 0o644,
      content: gzipSync(readFileSync(path.join(root, 'docs/configuration.md')), { level: 9 }),
    },
    ...debDocuments({
      root,
      name: NAME,
      version,
      dateSeconds: await sourceDate(root),
      licenses: [
        { name: 'Node.js', version: NODE_VERSION, license: 'MIT and others', text: readFileSync(runtime.license, 'utf8') },
        // SQLite itself is in the public domain; the add-on that holds it is not.
        packageLicense(path.join(root, 'node_modules/better-sqlite3')),
        ...app.licenses.filter(({ name }) => name !== 'better-sqlite3'),
      ],
      manual: MANUAL,
    }),
  ];
}

function debianFile(root: string, name: string): string {
  return readFileSync(path.join(root, 'gateway/package/debian', name), 'utf8');
}

const program = new Command('package-gateway')
  .option('--arch <architecture>', "amd64 or arm64 (default: this machine's)")
  .option('--revision <number>', 'Debian revision', '1')
  .option('--fast', 'larger and sooner: gzip instead of xz');
program.action(async ({ arch, revision, fast }: { arch?: string; revision: string; fast?: true }) => {
  const target = packageTarget(arch ?? null);
  const deb = await build({ target, revision, compression: fast === true ? 'gzip' : 'xz' });
  process.stdout.write(`${deb.file}\n`);
  process.stdout.write(`package ${(deb.bytes / 1e6).toFixed(1)} MB, installed ${(deb.installedBytes / 1e6).toFixed(1)} MB\n`);
});
await runCli(program, process.argv);
