import { afterEach, expect, test } from 'vitest';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fetchJson, Lab, until } from './processes.ts';
import { parseReport } from './report.ts';

let lab: Lab;
afterEach(async () => {
  await lab.close();
});

/** CI runs this longer in a step of its own. */
const seconds = Number(process.env['SLUICE_TEST_FLEET_SECONDS'] ?? 6);

test(
  `100 devices for ${seconds} s: nothing lost, doubled or altered, every aggregate right`,
  { timeout: (seconds + 100) * 1000 },
  async () => {
    lab = new Lab();
    const hub = await lab.hub();
    const gateway = await lab.gateway('gw-1', hub.url);
    const ledger = path.join(lab.directory, 'ledger.json');
    const fleet = lab.fleet(ledger, [gateway.mqttPort], ['--devices', '100', '--duration', String(seconds), '--seed', '7']);
    expect(await fleet.exit(), fleet.log).toBe(0);
    const report = parseReport(await lab.verify(ledger, hub.url));
    expect(report.readings).toMatchObject({ lost: 0, duplicated: 0, altered: 0 });
    expect(report.windows.map(({ window, wrong }) => ({ window, wrong }))).toEqual([
      { window: '1m', wrong: 0 },
      { window: '1h', wrong: 0 },
      { window: '1m_by_metric', wrong: 0 },
    ]);
    expect(report.ledger.devices).toBe(100);
    expect(report.readings.found).toBeGreaterThan(100 * (seconds - 5));
  },
);

const hasMosquitto = spawnSync('mosquitto_pub', ['--version']).error === undefined;

test.skipIf(!hasMosquitto)(
  'two gateways, a fleet over both, and mosquitto_pub beside it: all readings arrive under their gateways',
  async () => {
    lab = new Lab();
    const hub = await lab.hub();
    const gateways = [await lab.gateway('gw-a', hub.url), await lab.gateway('gw-b', hub.url)];
    const ledger = path.join(lab.directory, 'ledger.json');
    const fleet = lab.fleet(
      ledger,
      gateways.map((gateway) => gateway.mqttPort),
      ['--devices', '20', '--duration', '4'],
    );
    const nowMs = Date.now();
    gateways.forEach((gateway, index) => {
      for (let message = 0; message < 5; message++) {
        const payload = JSON.stringify({ ts: nowMs + message, temperature: 20 + message, state: `on-${index}` });
        const sent = spawnSync('mosquitto_pub', [
          '-h',
          '127.0.0.1',
          '-p',
          String(gateway.mqttPort),
          '-q',
          '1',
          '-t',
          'devices/shed/telemetry',
          '-m',
          payload,
        ]);
        expect(sent.status, sent.stderr.toString()).toBe(0);
      }
    });
    expect(await fleet.exit(), fleet.log).toBe(0);
    expect(parseReport(await lab.verify(ledger, hub.url)).ok).toBe(true);
    interface Readings {
      readonly rows: readonly {
        readonly gateway: string;
        readonly metric: string;
        readonly value: number | null;
        readonly text: string | null;
      }[];
    }
    const rows = await until('the readings of mosquitto_pub', async () => {
      const answer = await fetchJson<Readings>(`${hub.url}/v1/readings?device=shed&from=now-1h&limit=100`);
      return answer.rows.length === 20 ? answer.rows : null;
    });
    for (const gateway of ['gw-a', 'gw-b']) {
      const own = rows.filter((row) => row.gateway === gateway);
      expect(
        own
          .filter((row) => row.metric === 'temperature')
          .map((row) => row.value)
          .sort((a, b) => (a ?? 0) - (b ?? 0)),
      ).toEqual([20, 21, 22, 23, 24]);
      expect(own.filter((row) => row.metric === 'state').map((row) => row.text)).toEqual(
        Array(5).fill(gateway === 'gw-a' ? 'on-0' : 'on-1'),
      );
    }
  },
);
