/**
 * `npm run package:gateway [-- --arch amd64|arm64]`: the gateway's Debian package, in build/packages.
 *
 * Inside: Node, the gateway in two files (main thread and journal thread), SQLite compiled for both; nothing is fetched
 * when it is installed. What was fetched or compiled is kept under build/cache, so that a second run takes seconds.
 */
import { runCli } from '../../shared/cli.ts';
import type { Replacement } from '../../shared/package/bundle.ts';
import { packageCommand } from '../../shared/package/program-package.ts';
import { sqliteAddon } from './native-addon.ts';
import { renderUnit } from './unit.ts';

const NAME = 'sluice-gateway';

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

const program = packageCommand({
  name: NAME,
  component: 'gateway',
  stateDir: '/var/lib/sluice',
  entries: { main: 'gateway/main.ts', 'journal-worker': 'gateway/journal/journal-worker.ts' },
  replaced: REPLACED,
  external: EXTERNAL,
  nativeFiles: async ({ root, target, runtime, cacheDir }) => [await sqliteAddon(root, target, runtime, cacheDir)],
  // Its JavaScript is in the bundle, and so is its licence, which covers the add-on; SQLite is in the public domain.
  nativeLicenses: () => Promise.resolve([]),
  extraFiles: () => [],
  unit: renderUnit,
  summary: 'edge gateway for telemetry: durable before it acknowledges',
  description: DESCRIPTION,
  manual: MANUAL,
});
await runCli(program, process.argv);
