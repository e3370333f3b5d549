import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { gatewayConfigSchema } from '../config.ts';
import { enroll } from './enroll.ts';
import { withIdentity } from './hub-identity.ts';

test("the authority of the hub's certificate is kept: the file that was given need not be there when the gateway starts", async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-enroll-'));
  const hub = createServer((_request, response) => response.end(JSON.stringify({ gateway: 'gw-1', lake_id: 'l', hub_version: '1' })));
  await new Promise<void>((resolve) => hub.listen(0, '127.0.0.1', resolve));
  try {
    const given = path.join(directory, 'given.pem');
    const dataDir = path.join(directory, 'data');
    writeFileSync(given, 'authority');
    await enroll({
      dataDir,
      hub: `http://127.0.0.1:${(hub.address() as AddressInfo).port}`,
      enrolmentToken: 'sle_0123456789012345678901',
      caFile: given,
      replace: false,
      randomBytes: (count) => new Uint8Array(count),
      timeoutMs: 5_000,
    });
    rmSync(given);
    const { caFile } = withIdentity(gatewayConfigSchema.parse({ dataDir })).uplink;
    expect(readFileSync(caFile ?? '', 'utf8')).toBe('authority');
  } finally {
    hub.close();
    rmSync(directory, { recursive: true });
  }
});
