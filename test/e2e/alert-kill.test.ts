/**
 * `npm run alert-kills`: kill -9 of a real hub around each step of an alert on its way from a reading to people, over a real
 * gateway and a real lake: before an entry of the log of alerts, between it and the request, while the receiver has the
 * request, and between its answer and the note. Too slow for every run: rounds of some seconds.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { fetchJson, Lab, until } from './processes.ts';

const rounds = Number(process.env['SLUICE_ALERT_KILL_ROUNDS'] ?? 0);

interface Told {
  readonly status: 'firing' | 'resolved';
  readonly labels: Readonly<Record<string, string>>;
  readonly startsAt: string;
}

interface AlertRow {
  readonly id: string;
  readonly state: string;
  readonly device: string;
  readonly fired_at: string | null;
}

let lab: Lab | undefined;
let server: Server | undefined;
afterEach(async () => {
  await lab?.close();
  server?.closeAllConnections();
  server?.close();
});

test.skipIf(rounds === 0)(
  `SIGKILL of the hub at every step of an alert, ${rounds} rounds: each transition is in the log once, and people are told each`,
  { timeout: 60_000 + rounds * 30_000 },
  async () => {
    lab = new Lab();
    const told: Told[] = [];
    /** What happens to the next request; it is answered afterwards. */
    let onRequest: (step: 'asked' | 'answered') => Promise<void> = () => Promise.resolve();
    server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        told.push(...(JSON.parse(Buffer.concat(parts).toString()) as { alerts: Told[] }).alerts);
        void onRequest('asked').then(() => response.end(() => void onRequest('answered')));
      });
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server?.once('listening', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const hub = await lab.hub(['--allowed-lateness-ms', '100'], {
      SLUICE_HUB_WINDOWS: JSON.stringify([{ name: '1s', size: '1s' }]),
      SLUICE_HUB_ALERTS_RECEIVERS: JSON.stringify([{ name: 'people', kind: 'webhook', url, timeoutMs: 500 }]),
    });
    const gateway = await lab.gateway('gw-1', hub.url);
    const rule = { kind: 'threshold', window: '1s', function: 'max', above: 80 };
    const request = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(rule) };
    expect((await fetch(`${hub.url}/v1/alerts/rules/hot`, request)).status).toBe(201);
    let value = 0;
    const devices = ['d0', 'd1', 'd2'];
    let isOver = false;
    const feeding = (async () => {
      for (; !isOver; await sleep(200)) {
        const readings = devices.map((device) => ({ device, temperature: value }));
        const body = JSON.stringify(readings);
        await fetch(`${gateway.httpUrl}/v1/readings`, { method: 'POST', headers: { 'content-type': 'application/json' }, body }).catch(
          () => null,
        );
      }
    })();
    const restart = async (): Promise<void> => {
      onRequest = () => Promise.resolve();
      await hub.program.kill();
      await hub.program.start();
    };
    const alerts = async (state: string): Promise<AlertRow[]> =>
      (await fetchJson<{ rows: AlertRow[] }>(`${hub.url}/v1/alerts?state=${state}&limit=1000`)).rows;
    const wait = (firing: number): Promise<true> =>
      until(`${firing} alerts to fire`, async () => ((await alerts('firing')).length === firing ? true : null), 60_000);
    await until('readings in windows', async () => {
      const { rows } = await fetchJson<{ rows: unknown[] }>(`${hub.url}/v1/aggregates?window=1s&from=now-1m&metric=temperature`);
      return rows.length > 0 ? true : null;
    });
    for (let round = 0; round < rounds; round++) {
      const how = ['asked', 'answered', 'soon', 'later'][round % 4] ?? 'soon';
      value = round % 2 === 0 ? 100 : 0;
      if (how === 'soon' || how === 'later') await sleep((how === 'soon' ? 500 : 2_000) + Math.random() * 1_500);
      else
        await new Promise<void>((resolve) => {
          onRequest = async (step) => {
            if (step !== how) return;
            resolve();
            // Not answered by whom it was sent.
            if (step === 'asked') await sleep(100);
          };
        });
      await restart();
      await wait(round % 2 === 0 ? devices.length : 0);
    }
    value = 0;
    await wait(0);
    const fired = (await alerts('resolved')).filter(({ fired_at: at }) => at !== null);
    expect(fired.length).toBeGreaterThanOrEqual(devices.length * Math.ceil(rounds / 2));
    const lastOf = ({ device, fired_at: at }: AlertRow): string | undefined =>
      told.findLast(({ labels, startsAt }) => labels['device'] === device && Date.parse(startsAt) === Date.parse(at ?? ''))?.status;
    await until('people to know that all is over', () => (fired.every((row) => lastOf(row) === 'resolved') ? true : null), 40_000);
    isOver = true;
    await feeding;
    const states = new Map<string, string[]>();
    const folder = path.join(lab.lakeDir, '_sluice/alerts/log');
    for (const name of readdirSync(folder)
      .filter((file) => /^[0-9]{10}\.json$/.test(file))
      .sort())
      for (const { id, state } of (JSON.parse(readFileSync(path.join(folder, name), 'utf8')) as { alerts: AlertRow[] }).alerts)
        states.set(id, [...(states.get(id) ?? []), state]);
    // One window is enough to fire, so nothing is pending.
    for (const sequence of states.values()) expect(sequence).toEqual(['firing', 'resolved']);
    expect(states.size).toBe(fired.length);
    const endings = fired.filter(
      (row) =>
        !told.some(
          (one) =>
            one.status === 'firing' && one.labels['device'] === row.device && Date.parse(one.startsAt) === Date.parse(row.fired_at ?? ''),
        ),
    ).length;
    console.log(
      `alert kills: ${rounds} rounds, ${fired.length} alerts, told ${told.length} times; ${endings} were over before anybody could be told`,
    );
  },
);
