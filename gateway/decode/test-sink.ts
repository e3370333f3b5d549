/** A sink and a registry that keep what they get, for tests. */
import type { ExceptionRecord } from '../../shared/exception.ts';
import type { ReadingSink, SeriesRegistry } from '../journal/journal-api.ts';
import { BoundedSeriesRegistry } from '../journal/registry.ts';

export interface CollectedReading {
  readonly device: string;
  readonly metric: string;
  readonly tags: string;
  readonly us: number | null;
  readonly value: number | null;
  readonly text: string | null;
}

export class CollectingSink implements ReadingSink {
  readonly readings: CollectedReading[] = [];
  readonly exceptions: ExceptionRecord[] = [];
  readonly series: SeriesRegistry;

  constructor(series: SeriesRegistry = new BoundedSeriesRegistry()) {
    this.series = series;
  }

  add(seriesId: number, eventTimeUs: number, value: number, text: string | null): void {
    const { device, metric, tags } = this.series.seriesOf(seriesId);
    this.readings.push({
      device,
      metric,
      tags,
      us: Number.isNaN(eventTimeUs) ? null : eventTimeUs,
      value: Number.isNaN(value) ? null : value,
      text,
    });
  }

  exception(record: ExceptionRecord): void {
    this.exceptions.push(record);
  }
}
