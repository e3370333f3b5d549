/**
 * How a series of ours looks to Prometheus.
 *
 * `__name__` is the metric with every character that a metric name may not have made `_`: `cpu.usage_idle` is
 * `cpu_usage_idle`. The label `metric` keeps it as it is, so nothing is lost and two metrics that differ in such a
 * character only stay two series. `gateway` and `device` are labels; tags are labels under their own (made) names,
 * `exported_` before those that would hide one of ours, as Prometheus does for scraped labels.
 */

/** Sorted by name; a label that is absent counts as ''. */
export type Labels = ReadonlyMap<string, string>;

const OWN_LABELS: ReadonlySet<string> = new Set(['__name__', 'device', 'gateway', 'metric']);

export function metricName(metric: string): string {
  const name = metric.replace(/[^a-zA-Z0-9_:]/g, '_');
  return /^[0-9]/.test(name) ? `_${name}` : name;
}

function labelName(tag: string): string {
  const name = tag.replace(/[^a-zA-Z0-9_]/g, '_');
  const startsRight = /^[0-9]/.test(name) ? `_${name}` : name;
  return OWN_LABELS.has(startsRight) ? `exported_${startsRight}` : startsRight;
}

export function sortedLabels(entries: Iterable<readonly [string, string]>): Labels {
  return new Map([...entries].filter(([, value]) => value !== '').sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

/** @param tags canonical JSON, or null */
export function seriesLabels(gateway: string, device: string, metric: string, tags: string | null): Labels {
  const labels = new Map([
    ['__name__', metricName(metric)],
    ['device', device],
    ['gateway', gateway],
    ['metric', metric],
  ]);
  if (tags !== null && tags !== '') {
    for (const [tag, value] of Object.entries(JSON.parse(tags) as Record<string, string>)) {
      let name = labelName(tag);
      // Two tags that differ in such a character only.
      while (labels.has(name)) name = `${name}_`;
      labels.set(name, value);
    }
  }
  return sortedLabels(labels);
}

/** Equal for equal label sets. */
export function labelsKey(labels: Labels): string {
  let key = '';
  for (const [name, value] of labels) key += `${name}\u0000${value}\u0001`;
  return key;
}

export function keepLabels(labels: Labels, names: readonly string[]): Labels {
  return new Map([...labels].filter(([name]) => names.includes(name)));
}

export function dropLabels(labels: Labels, names: readonly string[]): Labels {
  return new Map([...labels].filter(([name]) => !names.includes(name)));
}

export function withoutName(labels: Labels): Labels {
  return dropLabels(labels, ['__name__']);
}
