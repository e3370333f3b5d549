import type { ReadingsResult } from './compare-readings.ts';
import type { WindowResult } from './compare-windows.ts';

/** What verify found; `--json` prints it as it stands. */
export interface VerifyReport {
  readonly ok: boolean;
  /** Why not ok; empty when it is. */
  readonly failures: readonly string[];
  readonly waitedMs: number;
  readonly ledger: {
    readonly complete: boolean;
    readonly devices: number;
    readonly seed: number;
    readonly messagesSent: number;
    readonly messagesAcked: number;
    readonly messagesSkipped: number;
    readonly readingsAcked: number;
  };
  readonly lake: {
    readonly readingsVersion: number;
    /** null: the table does not exist yet. */
    readonly exceptionsVersion: number | null;
    readonly files: number;
    readonly rows: number;
    /** Rows of table `exceptions` by kind. */
    readonly exceptions: Readonly<Record<string, number>>;
  };
  readonly readings: Omit<ReadingsResult, 'counted' | 'examples'>;
  readonly windows: readonly WindowResult[];
  readonly examples: readonly string[];
}

function table(rows: readonly (readonly [string, number, string])[]): string[] {
  const nameWidth = Math.max(...rows.map(([name]) => name.length));
  const countWidth = Math.max(...rows.map(([, count]) => String(count).length));
  return rows.map(
    ([name, count, note]) => `  ${name.padEnd(nameWidth)}  ${String(count).padStart(countWidth)}${note === '' ? '' : `  ${note}`}`,
  );
}

export function formatReport(report: VerifyReport): string {
  const { readings, lake, ledger } = report;
  const exceptions = Object.entries(lake.exceptions).map(([kind, count]) => `${count} ${kind}`);
  const rows: (readonly [string, number, string])[] = [
    [
      'acknowledged readings',
      readings.acked,
      `of ${ledger.messagesAcked} messages from ${ledger.devices} devices, seed ${ledger.seed}${ledger.complete ? '' : ', the run was killed'}`,
    ],
    ['in the lake', readings.found, `${lake.rows} rows in ${lake.files} files, version ${lake.readingsVersion}`],
    ['accounted for', readings.accountedFor, exceptions.length === 0 ? 'no exceptions' : `exceptions: ${exceptions.join(', ')}`],
    ['LOST', readings.lost, ''],
    ['DUPLICATED', readings.duplicated, ''],
    ['ALTERED', readings.altered, ''],
    ['in doubt', readings.inDoubt, `${readings.inDoubtArrived} of them arrived`],
    ['rows of others', readings.foreign, ''],
    ...report.windows.map((window): readonly [string, number, string] => [
      `WRONG in ${window.window}`,
      window.wrong,
      `of ${window.expected} expected, ${window.answered} answered${
        Object.keys(window.statuses).length === 0
          ? ''
          : ` (${Object.entries(window.statuses)
              .map(([status, count]) => `${count} ${status}`)
              .join(', ')})`
      }`,
    ]),
  ];
  const lines = table(rows);
  if (report.examples.length > 0) lines.push('', ...report.examples.map((example) => `  ${example}`));
  lines.push(
    '',
    report.ok
      ? `ok: every acknowledged reading is in the lake once, unaltered, and every aggregate is right (${(report.waitedMs / 1000).toFixed(1)} s)`
      : `FAILED: ${report.failures.join('; ')}`,
  );
  return lines.join('\n');
}
