/**
 * PromQL in the thread of the queries: selects series, fetches their samples, evaluates, writes the answer.
 *
 * Layout: the catalogue of series, kept for some seconds; everything else lives as long as one task.
 */
import { performance } from 'node:perf_hooks';
import { SluiceError } from '../../shared/errors.ts';
import type { AggregateCapture } from '../engine-api.ts';
import type { LakeReader } from '../query/duckdb.ts';
import { missingOfWindows } from '../query/missing-files.ts';
import type { SeriesRow } from '../query/query-api.ts';
import { catalogueOf, selectSeries, type CatalogueSeries } from './catalogue.ts';
import { evaluate, type SelectedSeries } from './evaluate.ts';
import type { Expression, Matcher, Selector } from './expression.ts';
import { distinctNames, readingSamples, windowSamples, type SampleReader } from './fetch-samples.ts';
import { parseExpression } from './parse.ts';
import { planQuery, type SelectorPlan } from './plan.ts';
import type { PromqlAnswer, PromqlListRequest, PromqlSelection, PromqlTask, SampleSource } from './promql-api.ts';
import {
  instantSeries,
  limitedList,
  matrixSeries,
  metricJson,
  rangeSeries,
  resultJson,
  scalarJson,
  successJson,
  type Notes,
} from './render.ts';
import { executionError } from './values.ts';

/** A new series is asked for by name at most so much later. */
const CATALOGUE_AGE_MS_MAX = 5_000;
const SERIES_MAX = 10_000;
/** A series may have grown by so much since the catalogue was read. */
const GROWTH_US = 3_600_000_000;

export interface RunnerOptions {
  readonly reader: LakeReader;
  readonly timeoutMs: number;
  /** The series of a capture, with the time of their first and last reading. */
  readonly listSeries: (capture: AggregateCapture) => Promise<readonly SeriesRow[]>;
}

export class PromqlRunner {
  readonly #options: RunnerOptions;
  #catalogue: { readonly series: readonly CatalogueSeries[]; readonly atMs: number } | null = null;

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /** @returns null: send the task again, with a catalogue */
  async run(task: PromqlTask): Promise<PromqlAnswer | PromqlSelection | null> {
    if (task.kind === 'promql_evaluate') return { body: await this.#evaluate(task) };
    const catalogue = await this.#freshCatalogue(task.catalogue);
    if (catalogue === null) return null;
    if (task.kind === 'promql_list') return { body: await this.#list(task.request, catalogue) };
    const selected = await this.#union(task.selectors, catalogue);
    return { metrics: distinctNames(selected, 'metric'), devices: distinctNames(selected, 'device') };
  }

  async #freshCatalogue(capture: AggregateCapture | null): Promise<readonly CatalogueSeries[] | null> {
    if (capture !== null) this.#catalogue = { series: catalogueOf(await this.#options.listSeries(capture)), atMs: performance.now() };
    else if (this.#catalogue === null || performance.now() - this.#catalogue.atMs > CATALOGUE_AGE_MS_MAX) return null;
    return this.#catalogue.series;
  }

  /** The series that any of the selectors means. */
  async #union(selectors: readonly (readonly Matcher[])[], catalogue: readonly CatalogueSeries[]): Promise<CatalogueSeries[]> {
    const selected = new Set<CatalogueSeries>();
    for (const matchers of selectors) for (const one of await selectSeries(this.#options.reader, catalogue, matchers)) selected.add(one);
    return [...selected];
  }

  async #evaluate({ query, source }: Extract<PromqlTask, { kind: 'promql_evaluate' }>): Promise<Uint8Array> {
    const { text, steps, isRange, lookbackUs, limit } = query;
    const timeoutMs = Math.min(this.#options.timeoutMs, query.timeoutMs ?? Infinity);
    const deadlineMs = performance.now() + timeoutMs;
    const checkTime = (): void => {
      if (performance.now() > deadlineMs)
        throw new SluiceError(
          'ERR_QUERY_TIMEOUT',
          `the query took longer than ${Math.ceil(timeoutMs)} ms; ask for a shorter range or fewer series`,
        );
    };
    const reader: SampleReader = {
      query: (sql, parameters) => this.#options.reader.query(sql, parameters, Math.max(1, deadlineMs - performance.now())),
    };
    const expression = parseExpression(text);
    const data = new Map<Selector, readonly SelectedSeries[]>();
    for (const plan of planQuery(expression, steps, lookbackUs, []).selectors) {
      data.set(plan.selector, await this.#samples(reader, plan, source));
      checkTime();
    }
    const notes = notesOf(expression, source);
    if (expression.kind === 'string')
      return successJson(`{"resultType":"string","result":[${steps.startUs / 1e6},${JSON.stringify(expression.text)}]}`);
    if (expression.kind === 'selector' && expression.rangeUs !== null)
      return resultJson('matrix', matrixSeries(data.get(expression) ?? []), limit, notes);
    const value = evaluate(expression, { steps, lookbackUs, data, checkTime });
    if (isRange) return resultJson('matrix', rangeSeries(value, steps), limit, notes);
    return value.kind === 'scalar'
      ? scalarJson(value.values[0], steps, notes)
      : resultJson('vector', instantSeries(value, steps), limit, notes);
  }

  async #samples(reader: SampleReader, plan: SelectorPlan, source: SampleSource): Promise<SelectedSeries[]> {
    if (this.#catalogue === null)
      throw new SluiceError('ERR_HTTP_UNAVAILABLE', 'the thread of the queries has just started anew; try again');
    const selected = await selectSeries(reader, this.#catalogue.series, plan.selector.matchers);
    const alive = selected.filter(({ firstTsUs, lastTsUs }) => firstTsUs <= plan.toUs + GROWTH_US && lastTsUs > plan.fromUs - GROWTH_US);
    if (alive.length > SERIES_MAX)
      throw executionError(`a selector means ${alive.length} series, at most ${SERIES_MAX} are allowed: add matchers`);
    return source.kind === 'readings'
      ? readingSamples(reader, source.capture.files, alive, plan)
      : windowSamples(reader, source.capture, alive, plan);
  }

  async #list(request: PromqlListRequest, catalogue: readonly CatalogueSeries[]): Promise<Uint8Array> {
    const matching = request.selectors.length === 0 ? catalogue : await this.#union(request.selectors, catalogue);
    const selected = matching.filter(({ firstTsUs, lastTsUs }) => firstTsUs <= request.toUs && lastTsUs >= request.fromUs);
    const { limit } = request;
    const sortedSet = (values: Iterable<string>): readonly string[] => [...new Set(values)].sort();
    const names = (values: Iterable<string>): Uint8Array =>
      limitedList(
        sortedSet(values).map((value) => JSON.stringify(value)),
        limit,
      );
    switch (request.what) {
      case 'series':
        return limitedList(
          selected.map(({ labels }) => metricJson(labels)),
          limit,
        );
      case 'labels':
        return names(selected.flatMap(({ labels }) => [...labels.keys()]));
      case 'values':
        return names(selected.flatMap(({ labels }) => labels.get(request.name) ?? []));
      case 'metadata': {
        const metrics = sortedSet(selected.flatMap(({ labels }) => labels.get('__name__') ?? []));
        const wanted = (request.name === '' ? metrics : metrics.filter((name) => name === request.name)).slice(0, limit || undefined);
        // Devices do not say what kind their numbers are of.
        return successJson(JSON.stringify(Object.fromEntries(wanted.map((name) => [name, [{ type: 'unknown', help: '', unit: '' }]]))));
      }
    }
  }
}

/** What the reader of the numbers has to know. */
function notesOf(expression: Expression, source: SampleSource): Notes {
  const missing = source.kind === 'readings' ? source.capture.unreadable.length : missingOfWindows(source.capture).length;
  const isFromWindows = source.kind === 'windows' && expression.kind !== 'number';
  return {
    infos: isFromWindows ? [`PromQL info: computed from ${source.capture.definition.name} windows (docs/promql.md)`] : [],
    warnings: missing === 0 ? [] : [`PromQL warning: ${missing} files of the lake cannot be read, their samples are missing`],
  };
}
