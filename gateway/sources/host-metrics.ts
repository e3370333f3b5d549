/**
 * The machine itself as a device: cpu, load, memory, disk, network and temperature, read from /proc and /sys.
 *
 * Rates and shares come from two samples, so the first one gives levels only. What a kernel does not show is left out.
 * The readings ride along with the next group commit; nobody waits for them.
 */
import { readFileSync, readdirSync, statfsSync } from 'node:fs';
import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/logging.ts';
import type { JournalWriter } from '../journal/journal-api.ts';

export interface HostMetricsOptions {
  readonly device: string;
  readonly intervalMs: number;
  /** The disk that is measured is the one of this directory. */
  readonly dataDir: string;
  readonly clock: Clock;
  readonly journal: JournalWriter;
  readonly logger: Logger;
  /** Where the kernel's files are; tests give a directory of their own. */
  readonly root?: string;
}

/** Totals since boot, from which rates are made. */
interface Totals {
  readonly atUs: number;
  readonly cpuBusy: number;
  readonly cpuAll: number;
  readonly received: number;
  readonly sent: number;
}

/** Network interfaces that exist only inside the machine. */
const INTERNAL_INTERFACE = /^(lo|veth|docker|br-|virbr|ifb|dummy|tun|tap|cni|flannel)/;
const SENSORS_MAX = 16;

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null; // this kernel or this machine does not have it
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return []; // as above
  }
}

/** `cpu  user nice system idle iowait irq softirq steal …` in ticks: proc_stat(5). */
export function parseCpu(stat: string): { busy: number; all: number } | null {
  const fields = /^cpu\s+(.+)$/m.exec(stat)?.[1]?.trim().split(/\s+/).map(Number);
  if (fields === undefined || fields.length < 5) return null;
  const all = fields.slice(0, 8).reduce((sum, ticks) => sum + ticks, 0); // guest time is part of user time
  const idle = fields[3] + fields[4];
  return { busy: all - idle, all };
}

export function parseMemory(meminfo: string): Map<string, number> {
  const bytes = new Map<string, number>();
  for (const match of meminfo.matchAll(/^(\w+):\s+(\d+) kB$/gm)) bytes.set(match[1], Number(match[2]) * 1024);
  return bytes;
}

/** Bytes received and sent over all interfaces that leave the machine. */
export function parseNetwork(dev: string): { received: number; sent: number } {
  let received = 0;
  let sent = 0;
  for (const match of dev.matchAll(/^\s*([^\s:]+):\s*(.+)$/gm)) {
    if (INTERNAL_INTERFACE.test(match[1])) continue;
    const fields = match[2].trim().split(/\s+/).map(Number);
    received += fields[0] ?? 0;
    sent += fields[8] ?? 0;
  }
  return { received, sent };
}

export interface HostMetrics {
  stop(): void;
}

class HostSampler {
  readonly #options: HostMetricsOptions;
  readonly #root: string;
  #before: Totals | null = null;

  constructor(options: HostMetricsOptions) {
    this.#options = options;
    this.#root = options.root ?? '';
  }

  /** Metric names and values of now. */
  sample(): Map<string, number> {
    const values = new Map<string, number>();
    this.#load(values);
    this.#memory(values);
    this.#disk(values);
    this.#temperatures(values);
    this.#rates(values);
    return values;
  }

  #load(values: Map<string, number>): void {
    const load = read(`${this.#root}/proc/loadavg`)?.split(' ').map(Number);
    if (load === undefined) return;
    for (const [index, minutes] of [1, 5, 15].entries()) values.set(`load.${minutes}m`, load[index]);
    const uptime = Number(read(`${this.#root}/proc/uptime`)?.split(' ')[0]);
    values.set('uptime.seconds', uptime);
  }

  #memory(values: Map<string, number>): void {
    const memory = parseMemory(read(`${this.#root}/proc/meminfo`) ?? '');
    const total = memory.get('MemTotal');
    const available = memory.get('MemAvailable');
    if (total === undefined || available === undefined) return;
    values.set('memory.total_bytes', total);
    values.set('memory.available_bytes', available);
    values.set('memory.used_ratio', (total - available) / total);
    const swap = memory.get('SwapTotal');
    if (swap !== undefined && swap > 0) values.set('memory.swap_used_bytes', swap - (memory.get('SwapFree') ?? 0));
  }

  #disk(values: Map<string, number>): void {
    try {
      const disk = statfsSync(this.#options.dataDir);
      const total = disk.blocks * disk.bsize;
      values.set('disk.total_bytes', total);
      values.set('disk.available_bytes', disk.bavail * disk.bsize);
      if (disk.blocks > 0) values.set('disk.used_ratio', (disk.blocks - disk.bfree) / (disk.blocks - disk.bfree + disk.bavail));
    } catch {
      // The directory is gone or its disk is: the other metrics say more about that than this one would.
    }
  }

  #temperatures(values: Map<string, number>): void {
    const zones = list(`${this.#root}/sys/class/thermal`).filter((name) => name.startsWith('thermal_zone'));
    for (const zone of zones.slice(0, SENSORS_MAX)) {
      const path = `${this.#root}/sys/class/thermal/${zone}`;
      const celsius = Number(read(`${path}/temp`)?.trim() || NaN) / 1000;
      const kind = read(`${path}/type`)
        ?.trim()
        .replace(/[^\w-]/g, '_');
      const name = `temperature.${kind === undefined || kind === '' ? zone : kind}`;
      if (Number.isFinite(celsius)) values.set(values.has(name) ? `${name}_${zone.slice('thermal_zone'.length)}` : name, celsius);
    }
  }

  #rates(values: Map<string, number>): void {
    const cpu = parseCpu(read(`${this.#root}/proc/stat`) ?? '');
    const network = parseNetwork(read(`${this.#root}/proc/net/dev`) ?? '');
    const now: Totals = { atUs: this.#options.clock.monotonicUs(), cpuBusy: cpu?.busy ?? NaN, cpuAll: cpu?.all ?? NaN, ...network };
    const before = this.#before;
    this.#before = now;
    if (before === null) return;
    const seconds = (now.atUs - before.atUs) / 1e6;
    values.set('cpu.usage', (now.cpuBusy - before.cpuBusy) / (now.cpuAll - before.cpuAll));
    values.set('network.received_bytes_per_second', (now.received - before.received) / seconds);
    values.set('network.sent_bytes_per_second', (now.sent - before.sent) / seconds);
  }
}

/** Starts measuring every `intervalMs`; the first time at once. */
export function startHostMetrics(options: HostMetricsOptions): HostMetrics {
  const { clock, journal, device, intervalMs, logger } = options;
  const sampler = new HostSampler(options);
  let cancel = (): void => undefined;
  const measure = (): void => {
    cancel = clock.after(intervalMs, measure);
    try {
      const values = sampler.sample();
      journal.message(
        (sink) => {
          for (const [metric, value] of values) {
            // A counter that wrapped or a device that went away gives no rate this time.
            if (Number.isFinite(value) && value >= -273.15) sink.add(journal.series.idOf(device, metric, ''), NaN, value, null);
          }
        },
        { redelivery: null, idempotencyKey: null, done: null },
      );
    } catch (error) {
      logger.warn({ err: error }, 'host metrics were not taken');
    }
  };
  measure();
  return { stop: () => cancel() };
}
