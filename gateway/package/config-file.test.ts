import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { loadConfig } from '../../shared/config.ts';
import { gatewayConfigSchema, type GatewayConfig } from '../config.ts';

const FILE = readFileSync(new URL('./debian/gateway.yaml', import.meta.url), 'utf8');

function load(text: string): GatewayConfig {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-config-'));
  try {
    const file = path.join(directory, 'gateway.yaml');
    writeFileSync(file, text);
    return loadConfig('gateway', gatewayConfigSchema, { file, env: {}, flags: new Map() });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('the configuration file of the package is valid, also with every example in it taken out of its comment', () => {
  expect(load(FILE).dataDir).toBe('/var/lib/sluice');
  // An example is a section's name at the margin, or what is indented below one; prose is neither.
  const config = load(FILE.replaceAll(/^# ((?:[a-z]+: *$| {2}).*)$/gm, '$1').replaceAll(/^ {2,}sudo .*$/gm, ''));
  expect(config.topics.map(({ match }) => match)).toEqual(['plant/{device}/{metric}']);
  expect([config.journal.sealIntervalMs, config.uplink.caFile]).toEqual([10_000, '/etc/sluice/hub-ca.pem']);
});
