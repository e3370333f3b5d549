import { afterEach, expect, test } from 'vitest';
import { cpSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fetchJson, Lab, until } from './processes.ts';
import { parseReport } from './report.ts';

let lab: Lab;
afterEach(async () => {
  await lab.close();
});

interface GatewayStatus {
  readonly epoch: string;
  readonly backlog: { readonly readings: number };
}

test(
  'an SD image restored from the past loses nothing that was acknowledged after it and nothing afterwards',
  { timeout: 150_000 },
  async () => {
    lab = new Lab();
    const hub = await lab.hub();
    const gateway = await lab.gateway('gw-1', hub.url);
    const image = path.join(lab.directory, 'image');
    const run = async (ledger: string, seed: string): Promise<void> => {
      const fleet = lab.fleet(
        path.join(lab.directory, ledger),
        [gateway.mqttPort],
        ['--devices', '20', '--duration', '3', '--seed', seed, '--name', `run${seed}`],
      );
      expect(await fleet.exit(), fleet.log).toBe(0);
    };
    const drained = (): Promise<true> =>
      until('the gateway to have no backlog', async () =>
        (await fetchJson<GatewayStatus>(`${gateway.httpUrl}/v1/status`)).backlog.readings === 0 ? true : null,
      );

    // Before the image: partly delivered, partly still in the journal when the card is read.
    await run('before.json', '1');
    await gateway.program.kill();
    cpSync(gateway.dataDir, image, { recursive: true });
    await gateway.program.start();
    const epochBefore = (await fetchJson<GatewayStatus>(`${gateway.httpUrl}/v1/status`)).epoch;

    // Written on: acknowledged, and delivered to the hub.
    await run('after.json', '2');
    await drained();
    await gateway.program.kill();

    // The old card is put back, and the gateway goes on from it.
    rmSync(gateway.dataDir, { recursive: true });
    cpSync(image, gateway.dataDir, { recursive: true });
    await gateway.program.start();
    expect((await fetchJson<GatewayStatus>(`${gateway.httpUrl}/v1/status`)).epoch).not.toBe(epochBefore);
    await run('afterwards.json', '3');
    await drained();

    for (const ledger of ['before.json', 'after.json', 'afterwards.json']) {
      const report = parseReport(await lab.verify(path.join(lab.directory, ledger), hub.url));
      expect(report.readings, ledger).toMatchObject({ lost: 0, duplicated: 0, altered: 0 });
      expect(report.ok, report.failures.join('; ')).toBe(true);
    }
  },
);
