/**
 * Notifications as a real Alertmanager takes them, and its own webhook beside ours. Debian's package
 * `prometheus-alertmanager`; without it the test is skipped and says so.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import type { Alert } from '../../hub/alerts/alert.ts';
import { AlertLog } from '../../hub/alerts/alert-log.ts';
import { Notifier } from '../../hub/alerts/notifier.ts';
import { postJson } from '../../hub/alerts/post-json.ts';
import { receiversSchema } from '../../hub/alerts/receiver.ts';
import { MemoryStore } from '../../hub/lake/memory-store.ts';
import { freePort, waitReady } from '../process-tools.ts';

const isInstalled = spawnSync('prometheus-alertmanager', ['--version']).status === 0;
if (!isInstalled) console.warn('prometheus-alertmanager is not installed (apt-get install prometheus-alertmanager): its test is skipped');

interface WebhookAlert {
  readonly status: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly startsAt: string;
  readonly fingerprint: string;
}

interface Webhook {
  readonly status: string;
  readonly version: string;
  readonly groupKey: string;
  readonly commonLabels: Readonly<Record<string, string>>;
  readonly groupLabels: Readonly<Record<string, string>>;
  readonly alerts: readonly WebhookAlert[];
}

const FIRING: Alert = {
  ...{ id: '1-0', rule: 'hot', severity: 'critical', summary: 'too "hot" \u00e4', condition: 'mean of 1m above 80', labels: { team: 'a' } },
  ...{ gateway: 'g', device: 'pump 1', metric: 'm.x', tags: '{"site":"x","1st/tag":"y"}', state: 'firing', cause: 'window', value: 90.25 },
  ...{ window: '1m', windowStartUs: 0, windowEndUs: 60e6, sinceUs: 0, firedUs: 60e6, resolvedUs: null, updatedUs: 1, version: 1 },
};

test.skipIf(!isInstalled)(
  'an Alertmanager takes what fires and what has ended, and sends on what our own webhook says',
  { timeout: 40_000 },
  async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'sluice-alertmanager-'));
    const received: Record<string, Webhook[]> = { '/ours': [], '/theirs': [] };
    const server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        received[request.url ?? '']?.push(JSON.parse(Buffer.concat(parts).toString()) as Webhook);
        response.end();
      });
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const hooks = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const config = { url: `${hooks}/theirs`, send_resolved: true };
    const route = { receiver: 'hook', group_by: ['alertname'], group_wait: '0s', group_interval: '1s', repeat_interval: '1h' };
    writeFileSync(path.join(directory, 'am.yml'), JSON.stringify({ route, receivers: [{ name: 'hook', webhook_configs: [config] }] }));
    const port = await freePort();
    const alertmanager = spawn(
      'prometheus-alertmanager',
      [
        `--config.file=${path.join(directory, 'am.yml')}`,
        `--storage.path=${directory}`,
        ...[`--web.listen-address=127.0.0.1:${port}`, '--cluster.listen-address='],
      ],
      { stdio: 'ignore' },
    );
    const store = new MemoryStore(systemClock);
    const log = await AlertLog.open(store, 'h', () => undefined);
    const amUrl = `http://127.0.0.1:${port}`;
    const notifier = new Notifier({
      ...{ alerts: log, store, externalUrl: null, hubInstance: 'h', clock: systemClock, logger: createLogger('test', 'silent') },
      ...{ env: {}, random: Math.random, post: postJson },
      receivers: receiversSchema.parse([
        { name: 'alertmanager', kind: 'alertmanager', url: amUrl },
        { name: 'hook', kind: 'webhook', url: `${hooks}/ours` },
      ]),
    });
    try {
      await waitReady(`${amUrl}/-/ready`);
      const nowUs = (): number => systemClock.nowUs();
      const firing = { ...FIRING, firedUs: nowUs() - 5e6, updatedUs: log.nextUs(nowUs()) };
      await log.append({ alerts: [firing] }, nowUs());
      await notifier.turn();
      const listed = (await (await fetch(`${amUrl}/api/v2/alerts`)).json()) as { labels: unknown; fingerprint: string }[];
      await expect.poll(() => received['/theirs']?.length, { timeout: 20_000, interval: 50 }).toBe(1);
      const resolved: Alert = { ...firing, state: 'resolved', resolvedUs: nowUs(), updatedUs: log.nextUs(nowUs()), version: 2 };
      await log.append({ alerts: [resolved] }, nowUs());
      await notifier.turn();
      await expect.poll(() => received['/theirs']?.length, { timeout: 20_000, interval: 50 }).toBe(2);
      expect(notifier.figures.map(({ delivered, failed, refused }) => [delivered, failed, refused])).toEqual([
        [2, 0, 0],
        [2, 0, 0],
      ]);
      const essence = ({ status, version, groupKey, groupLabels, commonLabels, alerts }: Webhook): unknown => ({
        ...{ status, version, groupKey, groupLabels, commonLabels },
        alerts: alerts.map(({ labels, annotations, startsAt, fingerprint, status: own }) => {
          return { labels, annotations, fingerprint, status: own, startsMs: Date.parse(startsAt) };
        }),
      });
      expect(received['/ours']?.map(essence)).toEqual(received['/theirs']?.map(essence));
      expect(listed.map(({ labels, fingerprint }) => ({ labels, fingerprint }))).toMatchObject([
        { labels: received['/ours']?.[0]?.alerts[0]?.labels, fingerprint: received['/ours']?.[0]?.alerts[0]?.fingerprint },
      ]);
    } finally {
      alertmanager.kill('SIGKILL');
      await notifier.stop();
      server.closeAllConnections();
      server.close();
      rmSync(directory, { recursive: true, force: true });
    }
  },
);
