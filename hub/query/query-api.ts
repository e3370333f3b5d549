/** What the HTTP layer asks of the query service, and what the service asks of its worker. Plain data: it crosses threads. */
import type { AggregateFunction } from '../../shared/window/partial.ts';
import type { VerdictQuery } from '../alerts/verdicts.ts';
import type { PromqlTask } from '../promql/promql-api.ts';
import type { ExceptionId } from '../release-lane.ts';
import type { FillMode } from './fill.ts';
import type { TagFilter } from './tags.ts';
import type { AggregateCapture, AggregateFilter, TableCapture, UnreadableFile } from '../engine-api.ts';

/** Where a page ends: the rows of the next one sort behind it. */
export interface AggregateCursor {
  readonly windowStartUs: number;
  /** groupKeyText of the last row. */
  readonly group: string;
}

export interface AggregateQuery extends AggregateFilter {
  /** Partials are read with buckets only where one of these needs them. */
  readonly functions: readonly AggregateFunction[];
  readonly tags?: TagFilter | null;
  /** Of gateway, device, metric, tags, tag:<key>; null: all keys of the window. */
  readonly groupBy?: readonly string[] | null;
  /** Windows are merged into steps of so long, a multiple of their size; null: they stay as they are. */
  readonly stepUs?: number | null;
  /** null: windows without readings have no row. */
  readonly fill?: FillMode | null;
  /** By window start, then group; default asc. */
  readonly order?: 'asc' | 'desc';
  readonly limit: number;
  readonly after: AggregateCursor | null;
}

export type WindowStatus = 'final' | 'revised' | 'provisional';

export interface AggregateRow {
  readonly windowStartUs: number;
  readonly windowEndUs: number;
  readonly gateway: string | null;
  readonly device: string | null;
  readonly metric: string | null;
  /** Canonical JSON. */
  readonly tags: string | null;
  readonly values: readonly (number | null)[];
  readonly status: WindowStatus;
  readonly revision: number;
  readonly late: number;
  /** Readings that are known not to be in it: the counts of exceptions of this series (cut to the window's share of their range); null: not known. */
  readonly lost: number | null;
  /** The number is an estimate: a range was cut, or an exception that overlaps the window names no series or no count. */
  readonly lostIsEstimate: boolean;
  /** Closed, and no exception overlaps it. */
  readonly complete: boolean;
}

export interface AggregateAnswer {
  readonly aggregatesVersion: number;
  readonly readingsVersion: number;
  readonly rows: readonly AggregateRow[];
  readonly next: AggregateCursor | null;
  /** Gateways whose watermark keeps a window of the answer open. */
  readonly waitingFor: readonly string[];
  /** false: memory was short, and some received readings show only once they are committed. */
  readonly overlayComplete: boolean;
}

/** The same page as the JSON document that HTTP answers with. */
export interface AggregateDocument {
  /** UTF-8; without its end (aggregate-document.ts: documentEnd). */
  readonly bytes: Uint8Array;
  /** Equal for pages with equal rows. */
  readonly rowsVersion: string;
  readonly next: AggregateCursor | null;
}

/** For the thread of hot queries. */
export interface HotTask {
  readonly query: AggregateQuery;
  /** Of the document: its members before those that the answer brings; null: an AggregateAnswer is wanted. */
  readonly head: string | null;
  /** The query's window starts, cut to multiples of the slide: queries of equal ones share a capture. */
  readonly fromUs: number;
  readonly toUs: number;
  /** Devices times windows. */
  readonly cost: number;
}

export interface ReadingQuery {
  readonly fromUs: number;
  readonly toUs: number;
  readonly gateways: readonly string[] | null;
  readonly devices: readonly string[] | null;
  readonly metrics: readonly string[] | null;
  readonly tags?: TagFilter | null;
  readonly order: 'asc' | 'desc';
  readonly limit: number;
  /** Rows behind this one, in the order asked for. */
  readonly after: ReadingCursor | null;
  /** Of the page before: the same files are read if this hub still knows them. null: the newest. */
  readonly version?: number | null;
}

/** A total order of readings: time, then the place where the reading came from. */
export interface ReadingCursor {
  readonly tsUs: number;
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: string;
  readonly epoch: string;
  readonly lane: string;
  readonly seq: number;
  /** Rows equal in all of that that the page had already. */
  readonly skip: number;
}

export interface ReadingRow {
  readonly tsUs: number;
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: string | null;
  readonly value: number | null;
  readonly text: string | null;
  readonly epoch: string;
  readonly lane: string;
  readonly seq: number;
  readonly ingestedUs: number;
}

export interface ReadingAnswer {
  readonly readingsVersion: number;
  /** Files of the range that cannot be read: their rows are missing. */
  readonly unreadable: readonly UnreadableFile[];
  readonly rows: readonly ReadingRow[];
  readonly next: ReadingCursor | null;
}

export interface ExceptionQuery {
  readonly fromUs: number;
  readonly toUs: number;
  readonly gateways: readonly string[] | null;
  readonly devices: readonly string[] | null;
  readonly metrics: readonly string[] | null;
  readonly kinds: readonly string[] | null;
  /** This one alone. */
  readonly id?: ExceptionId | null;
  readonly limit: number;
  /** Rows behind this one. */
  readonly after: ExceptionCursor | null;
  /** As in ReadingQuery. */
  readonly version?: number | null;
}

/** Newest first: when it was received, then its id. */
export interface ExceptionCursor {
  readonly ingestedUs: number;
  readonly gateway: string;
  readonly epoch: string;
  readonly lane: string;
  readonly seq: number;
  readonly idx: number;
}

export interface ExceptionRow {
  readonly gateway: string;
  readonly epoch: string;
  readonly lane: string;
  readonly seq: number;
  readonly idx: number;
  readonly kind: string;
  readonly device: string | null;
  readonly metric: string | null;
  readonly fromUs: number;
  readonly toUs: number;
  readonly readingCount: number | null;
  readonly reason: string;
  readonly payload: Uint8Array | null;
  readonly ingestedUs: number;
}

export interface ExceptionAnswer {
  readonly exceptionsVersion: number;
  /** Files of the range that cannot be read: their rows are missing. */
  readonly unreadable: readonly UnreadableFile[];
  readonly rows: readonly ExceptionRow[];
  readonly next: ExceptionCursor | null;
}

/** Series with what the windows know about them, newest first. */
export interface SeriesRow {
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: string | null;
  readonly count: number;
  readonly firstTsUs: number | null;
  readonly lastTsUs: number | null;
  readonly lastValue: number | null;
  /** Of a newest reading that is a text. */
  readonly lastText?: string | null;
}

/** Which of them; null: all. Names may have `*` for any characters. */
export interface SeriesQuery {
  readonly gateways: readonly string[] | null;
  readonly devices: readonly string[] | null;
  readonly metrics: readonly string[] | null;
  readonly tags: TagFilter | null;
  readonly limit: number;
  /** `next` of the page before. */
  readonly after: string | null;
}

export interface DeviceRow {
  readonly gateway: string;
  readonly device: string;
  readonly metrics: readonly string[];
  readonly series: number;
  readonly count: number;
  readonly firstTsUs: number | null;
  readonly lastTsUs: number | null;
}

/** By name. */
export interface SeriesPage<T> {
  /** Names the reading of the list that the page is from. */
  readonly version: string;
  readonly rows: readonly T[];
  readonly next: string | null;
  /** There are more series than the hub lists. */
  readonly truncated: boolean;
}

/** What the list of all series is read from. */
export interface SeriesSource {
  /** null: there are no windows by series that the lake keeps. */
  readonly capture: AggregateCapture | null;
  readonly readings: TableCapture;
  readonly rowsMax: number;
}

/** Main thread → query worker. */
export type QueryTask =
  /** `head` as in HotTask. */
  | { readonly kind: 'aggregates'; readonly query: AggregateQuery; readonly head: string | null; readonly capture: AggregateCapture }
  | { readonly kind: 'verdicts'; readonly query: VerdictQuery; readonly capture: AggregateCapture }
  | { readonly kind: 'readings'; readonly query: ReadingQuery; readonly capture: TableCapture }
  | { readonly kind: 'exceptions'; readonly query: ExceptionQuery; readonly capture: TableCapture }
  /** `source` null: the list that was read last. */
  | { readonly kind: 'series'; readonly by: 'series' | 'device'; readonly query: SeriesQuery; readonly source: SeriesSource | null }
  | PromqlTask;

export interface QuerySettings {
  readonly lakeDir: string;
  readonly memoryBytesMax: number;
  readonly timeoutMs: number;
}
