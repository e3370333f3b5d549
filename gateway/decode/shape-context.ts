import { isSluiceError, type SluiceError } from '../../shared/errors.ts';
import type { EventTimeReader } from './event-time.ts';
import type { ReadingWriter } from './reading-writer.ts';
import type { MetricNode, SeriesScope, SeriesScopes } from './series-scope.ts';

/** What is known about a message before its payload is read. */
export interface ShapeContext {
  readonly writer: ReadingWriter;
  readonly scopes: SeriesScopes;
  /** null: the payload names the device. */
  readonly scope: SeriesScope | null;
  /** null: the payload names the metrics; otherwise the node of the topic's metric. */
  readonly metric: MetricNode | null;
  readonly time: EventTimeReader;
  readonly timeKeys: readonly string[];
  /** Where `scope` is null: the key of the payload that names the device. */
  readonly deviceKey: string;
}

export type Fields = Readonly<Record<string, unknown>>;

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** Faults that are found before anything of an entry is written. */
export function isEntryFault(error: unknown): error is SluiceError {
  return (
    isSluiceError(error) &&
    (error.code === 'ERR_DECODE_TIME' ||
      error.code === 'ERR_DECODE_DEVICE' ||
      error.code === 'ERR_DECODE_NAME' ||
      error.code === 'ERR_DECODE_SHAPE' ||
      error.code === 'ERR_BROKER_FORBIDDEN')
  );
}
