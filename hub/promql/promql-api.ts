/** What the HTTP layer asks, and what the thread of the queries is given. Plain data: it crosses threads. */
import type { AggregateCapture, TableCapture } from '../engine-api.ts';
import type { Matcher } from './expression.ts';
import type { Steps } from './values.ts';

/** How old the newest sample of an instant selector may be; Prometheus' default. */
export const LOOKBACK_US = 300_000_000;

export interface PromqlQuery {
  readonly text: string;
  readonly steps: Steps;
  /** /api/v1/query_range: the answer is a matrix. */
  readonly isRange: boolean;
  readonly lookbackUs: number;
  /** Series of the answer; 0: as many as there are. */
  readonly limit: number;
  /** From when it is asked, waiting included; null: the server's own. Never more than that. */
  readonly timeoutMs: number | null;
}

export type PromqlRequest = { readonly kind: 'query'; readonly query: PromqlQuery } | PromqlListRequest;

/** Of the series that match any of `selectors` (all, where there is none) and have readings in [fromUs, toUs]. */
export interface PromqlListRequest {
  readonly kind: 'list';
  readonly what: 'series' | 'labels' | 'values' | 'metadata';
  /** Of `values` the label, of `metadata` the metric's name or ''. */
  readonly name: string;
  readonly selectors: readonly (readonly Matcher[])[];
  readonly fromUs: number;
  readonly toUs: number;
  /** 0: as many as there are. */
  readonly limit: number;
}

/** Where the samples come from. */
export type SampleSource =
  { readonly kind: 'readings'; readonly capture: TableCapture } | { readonly kind: 'windows'; readonly capture: AggregateCapture };

/** `catalogue` null: the thread still has one that is new enough, or answers null and is asked again. */
export type PromqlTask =
  | { readonly kind: 'promql_select'; readonly selectors: readonly (readonly Matcher[])[]; readonly catalogue: AggregateCapture | null }
  | { readonly kind: 'promql_list'; readonly request: PromqlListRequest; readonly catalogue: AggregateCapture | null }
  | {
      readonly kind: 'promql_evaluate';
      /** Its `timeoutMs` is what is left of it. */
      readonly query: PromqlQuery;
      readonly source: SampleSource;
    };

/** What the selected series have in common: prunes files and rows. null: too many names to list. */
export interface PromqlSelection {
  readonly metrics: readonly string[] | null;
  readonly devices: readonly string[] | null;
}

/** An answer of Prometheus' API, as JSON in UTF-8. */
export interface PromqlAnswer {
  readonly body: Uint8Array;
}
