import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import { MemoryJournal } from '../broker/memory-journal.ts';
import { startHostMetrics } from './host-metrics.ts';

function machine(files: Record<string, string>): string {
  const root = mkdtempSync(path.join(tmpdir(), 'sluice-host-'));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    writeFileSync(path.join(root, name), content);
  }
  return root;
}

test('the machine is a device: levels at once, rates from the second time on', () => {
  const root = machine({
    'proc/loadavg': '0.50 0.25 0.10 1/100 4242\n',
    'proc/uptime': '1234.5 99.0\n',
    'proc/meminfo': 'MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     250 kB\n',
    'proc/stat': 'cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 100 0 100 800 0 0 0 0 0 0\n',
    'proc/net/dev': 'Inter-|\n face |\n    lo: 9999 1 0 0 0 0 0 0 9999 1 0 0 0 0 0 0\n  eth0: 1000 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n',
    'sys/class/thermal/thermal_zone0/temp': '48500\n',
    'sys/class/thermal/thermal_zone0/type': 'cpu-thermal\n',
  });
  const clock = new ManualClock(1_700_000_000_000_000);
  const journal = new MemoryJournal();
  journal.automatic = false;
  const host = startHostMetrics({
    device: 'pi',
    intervalMs: 10_000,
    dataDir: root,
    clock,
    journal,
    logger: createLogger('test', 'silent'),
    root,
  });
  journal.commit();
  const first = Object.fromEntries(journal.readings.map((reading) => [reading.metric, reading.value]));
  expect(first).toMatchObject({
    'load.1m': 0.5,
    'memory.available_bytes': 256_000,
    'memory.used_ratio': 0.75,
    'temperature.cpu-thermal': 48.5,
    'uptime.seconds': 1234.5,
  });
  expect(first['cpu.usage']).toBeUndefined();
  writeFileSync(path.join(root, 'proc/stat'), 'cpu  200 0 200 1600 0 0 0 0 0 0\n');
  writeFileSync(path.join(root, 'proc/net/dev'), '  eth0: 2000 1 0 0 0 0 0 0 600 1 0 0 0 0 0 0\n');
  journal.readings.length = 0;
  clock.advance(10_000_000);
  journal.commit();
  const second = Object.fromEntries(journal.readings.map((reading) => [reading.metric, reading.value]));
  expect(second).toMatchObject({ 'cpu.usage': 0.2, 'network.received_bytes_per_second': 100, 'network.sent_bytes_per_second': 10 });
  host.stop();
  clock.advance(60_000_000);
  expect(journal.uncommitted).toBe(0);
  rmSync(root, { recursive: true });
});

test('a kernel that shows nothing gives what there is and no error', () => {
  const root = machine({});
  const journal = new MemoryJournal();
  journal.automatic = false;
  startHostMetrics({
    device: 'pi',
    intervalMs: 10_000,
    dataDir: path.join(root, 'gone'),
    clock: new ManualClock(0),
    journal,
    logger: createLogger('test', 'silent'),
    root,
  }).stop();
  journal.commit();
  expect(journal.readings).toEqual([]);
  rmSync(root, { recursive: true });
});
