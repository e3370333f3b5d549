/** What the HTTP layer asks of the SQL service, and what the service asks of its processes. Plain data: it crosses processes. */
import type { ErrorCode } from '../../shared/errors.ts';
import type { Alert } from '../alerts/alert.ts';
import type { SnapshotCapture, SnapshotRequest } from '../engine-api.ts';

export const ANSWER_FORMATS = ['json', 'ndjson', 'csv', 'arrow', 'parquet'] as const;
export type AnswerFormat = (typeof ANSWER_FORMATS)[number];

export type SqlValue = string | number | boolean | null;

export interface SqlQuery {
  /** One SELECT or EXPLAIN [ANALYZE] SELECT. */
  readonly sql: string;
  /** For $1, $2 …, or by name for $name. */
  readonly parameters: readonly SqlValue[] | Readonly<Record<string, SqlValue>>;
  readonly format: AnswerFormat;
  /** An answer with more rows is refused. */
  readonly rowsMax: number;
}

/** Alerts as they are, and how many entries of their log that takes. */
export interface AlertsCapture {
  readonly version: number;
  readonly rows: readonly Alert[];
}

export interface SqlAnswer {
  readonly body: Uint8Array;
  readonly rowCount: number;
  /** Versions of the tables that the statement reads. */
  readonly versions: Readonly<Record<string, number>>;
}

/** What the service answers. */
export interface SqlOutcome extends SqlAnswer {
  /** Files of the snapshot that are damaged or gone: their rows are missing. */
  readonly unreadableFiles: number;
}

/** Node, DuckDB's code, and an answer under construction: what a process may hold besides DuckDB's own bound. */
export const PROCESS_BYTES = 400_000_000;

/** Bounds of one statement. */
export interface SqlSettings {
  /** DuckDB's own bound; the process may hold so much and PROCESS_BYTES more before it is ended. */
  readonly memoryBytesMax: number;
  readonly timeoutMs: number;
  readonly threads: number;
  /** Of one rendered answer. */
  readonly answerBytesMax: number;
}

/** Parent → process. One statement at a time: `plan` is answered by `planned`, then `run` by `done`; `failed` ends either. */
export type SqlRequest =
  | { readonly kind: 'plan'; readonly query: SqlQuery }
  | { readonly kind: 'run'; readonly capture: SnapshotCapture; readonly alerts: AlertsCapture | null }
  | { readonly kind: 'cancel' };

/** Process → parent. */
export type SqlReply =
  | { readonly kind: 'ready' }
  | { readonly kind: 'planned'; readonly request: SnapshotRequest; readonly readsAlerts: boolean }
  | { readonly kind: 'done'; readonly answer: SqlAnswer }
  | {
      readonly kind: 'failed';
      readonly code: ErrorCode | null;
      readonly message: string;
      /** Files of the capture that cannot be read, if that may be why. */
      readonly unreadable: readonly string[];
    };
