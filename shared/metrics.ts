import { Registry, Counter, Gauge, Histogram, collectDefaultMetrics } from 'prom-client';

export { Counter, Gauge, Histogram, Registry };

/** The metrics of one process, Prometheus base units, names `sluice_<component>_…`, the process's own included. */
export function createMetrics(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return registry;
}
