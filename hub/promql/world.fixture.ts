/** Series whose samples lie beside every round time, in the form that each side takes; for tests. */
import type { SeriesRuns } from '../../shared/reading.ts';
import { seriesLabels } from './labels.ts';

export interface WorldSeries {
  readonly device: string;
  readonly metric: string;
  /** Canonical JSON, or ''. */
  readonly tags: string;
  readonly tsUs: readonly number[];
  readonly values: readonly number[];
}

/** Gauges, a counter with resets, a series with tags, one that ends early. Milliseconds, since Prometheus has no more. */
export function makeWorld(startUs: number, seconds: number, random: () => number): WorldSeries[] {
  const sampled = (everySeconds: number, untilSeconds: number, next: (index: number) => number): Pick<WorldSeries, 'tsUs' | 'values'> => {
    const tsUs: number[] = [];
    const values: number[] = [];
    for (let second = 0; second + everySeconds < untilSeconds; second += everySeconds) {
      tsUs.push(startUs + second * 1_000_000 + (1 + Math.floor(random() * 900)) * 1000);
      values.push(next(tsUs.length));
    }
    return { tsUs, values };
  };
  let total = 0;
  const count = (): number => {
    total = random() < 0.02 ? 0 : total + Math.floor(random() * 50);
    return total;
  };
  const gauge = (): number => Math.round((random() - 0.3) * 1e4) / 100;
  const series: WorldSeries[] = [];
  for (const device of ['pump-1', 'pump-2', 'fan 3']) {
    series.push({ device, metric: 'temperature', tags: '', ...sampled(7, seconds, gauge) });
    series.push({ device, metric: 'cpu.usage_idle', tags: '{"core":"0","device":"x"}', ...sampled(10, seconds, gauge) });
    series.push({ device, metric: 'energy_total', tags: '', ...sampled(5, seconds, count) });
  }
  series.push({ device: 'pump-9', metric: 'temperature', tags: '', ...sampled(11, seconds / 4, gauge) });
  // In the order of a batch's series table.
  const key = ({ device, metric }: WorldSeries): string => `${device}\u0000${metric}`;
  return series.sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

export function runsOf(series: readonly WorldSeries[]): SeriesRuns {
  const offsets = [0];
  for (const { tsUs } of series) offsets.push((offsets.at(-1) ?? 0) + tsUs.length);
  return {
    count: offsets.at(-1) ?? 0,
    seriesTable: series.map(({ device, metric, tags }) => ({ device, metric, tags })),
    runOffsets: Uint32Array.from(offsets),
    eventTimeUs: Float64Array.from(series.flatMap(({ tsUs }) => tsUs)),
    value: Float64Array.from(series.flatMap(({ values }) => values)),
    text: null,
    texts: [],
  };
}

/** As `promtool tsdb create-blocks-from openmetrics` takes it. */
export function openMetricsOf(gateway: string, series: readonly WorldSeries[]): string {
  const byName = new Map<string, string[]>();
  for (const { device, metric, tags, tsUs, values } of series) {
    const labels = new Map(seriesLabels(gateway, device, metric, tags === '' ? null : tags));
    const name = labels.get('__name__') ?? '';
    labels.delete('__name__');
    const text = [...labels].map(([label, value]) => `${label}=${JSON.stringify(value)}`).join(',');
    const lines = byName.get(name) ?? [];
    tsUs.forEach((us, index) => lines.push(`${name}{${text}} ${values[index]} ${us / 1e6}`));
    byName.set(name, lines);
  }
  return `${[...byName].flatMap(([name, lines]) => [`# TYPE ${name} unknown`, ...lines]).join('\n')}\n# EOF\n`;
}
