/** Every listener with TLS: devices over mqtts and https at the gateway, the gateway over https at the hub. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { request } from 'node:https';
import path from 'node:path';
import { connectAsync } from 'mqtt';
import { afterEach, expect, test } from 'vitest';
import { Lab, Program, until } from './processes.ts';
import { freePort } from '../process-tools.ts';

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
if (!hasOpenssl) console.info('openssl is not installed: listeners with TLS are not tested (apt-get install openssl)');

let lab: Lab;
afterEach(() => lab.close());

interface Pair {
  readonly cert: string;
  readonly key: string;
}

function certificate(directory: string, name: string): Pair {
  const pair = { cert: path.join(directory, `${name}.pem`), key: path.join(directory, `${name}.key`) };
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...[...subject, '-keyout', pair.key, '-out', pair.cert],
  ]);
  expect(existsSync(pair.cert), made.stderr.toString()).toBe(true);
  return pair;
}

/** @returns status and body, or the code of the error that ended it */
function ask(
  url: string,
  ca: Buffer,
  options: { method?: string; body?: string } = {},
): Promise<{ status: number | string; body: string }> {
  return new Promise((resolve) => {
    const asked = request(url, { ca, method: options.method ?? 'GET', headers: { 'content-type': 'application/json' } }, (answer) => {
      let body = '';
      answer.on('data', (chunk: Buffer) => (body += chunk.toString()));
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body }));
    });
    asked.on('error', (error: NodeJS.ErrnoException) => resolve({ status: error.code ?? error.message, body: '' }));
    asked.end(options.body);
  });
}

test.skipIf(!hasOpenssl)(
  'readings go from mqtts and https through an https uplink into the lake; a certificate of another authority stops the uplink',
  { timeout: 60_000 },
  async () => {
    lab = new Lab();
    const hubPair = certificate(lab.directory, 'hub');
    const gatewayPair = certificate(lab.directory, 'gateway');
    const hubCa = readFileSync(hubPair.cert);
    const gatewayCa = readFileSync(gatewayPair.cert);
    const tokenFile = await lab.gatewayToken('gw-1');
    const [hubPort, mqttPort, wsPort, httpPort] = [await freePort(), await freePort(), await freePort(), await freePort()];
    const hub = new Program(
      'hub',
      'hub/main.js',
      [
        ...['run', '--lake-dir', lab.lakeDir, '--http-port', String(hubPort), '--commit-interval-ms-min', '200'],
        ...['--http-tls-cert', hubPair.cert, '--http-tls-key', hubPair.key],
      ],
      null,
    );
    const gatewayArgs = (caFile: string): string[] => [
      ...['run', '--data-dir', path.join(lab.directory, 'gw-1'), '--host-metrics-enabled', 'false', '--journal-seal-interval-ms', '200'],
      ...['--mqtt-port', String(mqttPort), '--mqtt-ws-port', String(wsPort), '--http-port', String(httpPort)],
      ...['--mqtt-tls-cert', gatewayPair.cert, '--mqtt-tls-key', gatewayPair.key],
      ...['--http-tls-cert', gatewayPair.cert, '--http-tls-key', gatewayPair.key],
      ...['--uplink-url', `https://127.0.0.1:${hubPort}`, '--uplink-token-file', tokenFile, '--uplink-ca-file', caFile],
    ];
    const wrong = new Program('gateway', 'gateway/main.js', gatewayArgs(gatewayPair.cert), null);
    const right = new Program('gateway', 'gateway/main.js', gatewayArgs(hubPair.cert), null);
    const isReady = (program: Program, port: number, ca: Buffer): Promise<true> =>
      until(`${program.name} to be ready`, async () => {
        if (!program.isRunning) throw new Error(`${program.name} ended:\n${program.log}`);
        return (await ask(`https://127.0.0.1:${port}/readyz`, ca)).status === 200 ? true : null;
      });
    try {
      hub.spawn();
      wrong.spawn();
      await isReady(hub, hubPort, hubCa);
      await isReady(wrong, httpPort, gatewayCa);

      const device = await connectAsync(`mqtts://127.0.0.1:${mqttPort}`, { ca: gatewayCa, clientId: 'd-1' });
      await device.publishAsync('devices/d-1/telemetry', '{"temperature":21.5}', { qos: 1 });
      const browser = await connectAsync(`wss://127.0.0.1:${wsPort}`, { ca: gatewayCa, clientId: 'd-2' });
      await browser.publishAsync('devices/d-2/telemetry', '{"temperature":22.5}', { qos: 1 });
      await Promise.all([device.endAsync(), browser.endAsync()]);
      const posted = await ask(`https://127.0.0.1:${httpPort}/v1/readings`, gatewayCa, {
        method: 'POST',
        body: '{"device":"d-3","temperature":23.5}',
      });
      expect(posted.status, posted.body).toBeLessThan(300);

      await until('the log to say why there is no uplink', () => (/certificate/i.test(wrong.log) ? true : null));
      expect((await ask(`https://127.0.0.1:${hubPort}/v1/series`, hubCa)).body).not.toContain('d-1');
      await wrong.stop();

      right.spawn();
      const devices = await until('three devices at the hub', async () => {
        const { status, body } = await ask(`https://127.0.0.1:${hubPort}/v1/series`, hubCa);
        if (status !== 200) return null;
        const { rows } = JSON.parse(body) as { rows: readonly { device: string }[] };
        return rows.length === 3 ? rows.map((row) => row.device).sort() : null;
      });
      expect(devices).toEqual(['d-1', 'd-2', 'd-3']);
      expect((await ask(`https://127.0.0.1:${hubPort}/v1/series`, gatewayCa)).status, 'another authority').not.toBe(200);
    } finally {
      await Promise.all([hub.kill(), wrong.kill(), right.kill()]);
    }
  },
);
