/** What expressions evaluate to: columns over the steps of the query. */
import { SluiceError } from '../../shared/errors.ts';
import { labelsKey, type Labels } from './labels.ts';

export interface Steps {
  readonly startUs: number;
  /** 1 where there is one step. */
  readonly stepUs: number;
  readonly count: number;
}

export function timeOfStep({ startUs, stepUs }: Steps, step: number): number {
  return startUs + step * stepUs;
}

export interface VectorSeries {
  readonly labels: Labels;
  readonly values: Float64Array;
  /** 1 where the step has a value: NaN is a value. */
  readonly present: Uint8Array;
}

export type Value =
  { readonly kind: 'scalar'; readonly values: Float64Array } | { readonly kind: 'vector'; readonly series: readonly VectorSeries[] };

export function executionError(detail: string): SluiceError {
  return new SluiceError('ERR_PROMQL_EXECUTION', detail);
}

export function emptySeries(labels: Labels, count: number): VectorSeries {
  return { labels, values: new Float64Array(count), present: new Uint8Array(count) };
}

/**
 * Series whose labels became equal (a name was dropped) are one, as long as they share no step.
 *
 * @throws SluiceError ERR_PROMQL_EXECUTION where they do
 */
export function mergeEqual(series: readonly VectorSeries[]): readonly VectorSeries[] {
  const byKey = new Map<string, VectorSeries>();
  for (const one of series) {
    const key = labelsKey(one.labels);
    const known = byKey.get(key);
    if (known === undefined) {
      byKey.set(key, one);
      continue;
    }
    const merged = { labels: one.labels, values: known.values.slice(), present: known.present.slice() };
    one.present.forEach((isPresent, step) => {
      if (isPresent === 0) return;
      if (merged.present[step] === 1) throw executionError('vector cannot contain metrics with the same labelset');
      merged.present[step] = 1;
      merged.values[step] = one.values[step];
    });
    byKey.set(key, merged);
  }
  return byKey.size === series.length ? series : [...byKey.values()];
}
