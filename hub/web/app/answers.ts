/** The answers of the hub under the names that they have on this page. */
import type {
  Alert,
  Alerts,
  Exception,
  Exceptions,
  Gateway,
  Gateways,
  Series,
  WindowRow,
  Windows,
} from '../../../shared/hub-client/sluice-hub.ts';

export interface SeriesAnswer {
  readonly rows: readonly SeriesRow[];
  readonly truncated: boolean;
  readonly next_cursor: string | null;
}
export type AggregateRow = WindowRow;
export type WindowStatus = WindowRow['status'];
export type WindowDefinition = Pick<Windows['rows'][number], 'name' | 'size_ms' | 'slide_ms' | 'by'>;
export type SeriesRow = Pick<Series, 'gateway' | 'device' | 'metric' | 'tags' | 'first_ts' | 'last_ts'>;
export type ExceptionRow = Exception;
export type ExceptionsAnswer = Exceptions;
export type GatewayRow = Gateway;
export type GatewayLane = Gateway['lanes'][number];
export type GatewaysAnswer = Gateways;
export type AlertRow = Alert;
export type AlertsAnswer = Pick<Alerts, 'rows' | 'next_cursor'>;
