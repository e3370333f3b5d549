/** What the lab says in the end: a table for people, JSON for machines, one exit code. */
import type { TrialResult } from './trial.ts';

export interface ScenarioVerdict {
  readonly scenario: string;
  /** null: it was skipped. */
  readonly trial: TrialResult | null;
  readonly skipped: string | null;
  /** null: there is none, or it was skipped. */
  readonly control: TrialResult | null;
  readonly controlSkipped: string | null;
  readonly ok: boolean;
}

/** A control did its work when the lab reported that something acknowledged is missing, or came twice where once was promised. */
export function controlReportedLoss({ figures }: TrialResult): boolean {
  return figures.lost + figures.accountedFor + figures.duplicated > 0;
}

export function verdictOf(
  scenario: string,
  trial: TrialResult | null,
  skipped: string | null,
  control: TrialResult | null,
  controlSkipped: string | null,
): ScenarioVerdict {
  const isTrialOk = trial === null || trial.violations.length === 0;
  const isControlOk = control === null || controlReportedLoss(control);
  return { scenario, trial, skipped, control, controlSkipped, ok: isTrialOk && isControlOk };
}

function controlText({ control, controlSkipped }: ScenarioVerdict): string {
  if (control !== null) {
    const missing = control.figures.lost + control.figures.accountedFor;
    const seen = [
      ...(missing > 0 ? [`${missing} lost`] : []),
      ...(control.figures.duplicated > 0 ? [`${control.figures.duplicated} twice`] : []),
    ];
    return seen.length > 0 ? `reported ${seen.join(', ')}` : 'REPORTED NOTHING';
  }
  return controlSkipped === null ? '-' : `skipped: ${controlSkipped}`;
}

const HEADINGS = [
  'scenario',
  'faults',
  'acknowledged',
  'lost',
  'announced',
  'duplicated',
  'wrong',
  'recovery',
  'control',
  'verdict',
] as const;

function row(verdict: ScenarioVerdict): string[] {
  const { trial, scenario, ok } = verdict;
  if (trial === null)
    return [scenario, '-', '-', '-', '-', '-', '-', '-', controlText(verdict), `${ok ? 'skipped' : 'FAILED'}: ${verdict.skipped}`];
  const { figures, faults, recoveryMs, violations } = trial;
  return [
    scenario,
    String(Object.values(faults).reduce((sum, count) => sum + count, 0)),
    String(figures.acknowledged),
    String(figures.lost),
    String(figures.accountedFor),
    String(figures.duplicated),
    String(figures.altered + figures.wrong),
    recoveryMs === null ? '-' : `${(recoveryMs / 1000).toFixed(1)} s`,
    controlText(verdict),
    ok ? 'ok' : `FAILED${violations.length > 0 ? ` (${violations.length})` : ''}`,
  ];
}

export function formatTable(verdicts: readonly ScenarioVerdict[]): string {
  const lines = [[...HEADINGS], ...verdicts.map(row)];
  const widths = HEADINGS.map((_, column) => Math.max(...lines.map((cells) => cells[column].length)));
  const isNumber = (column: number): boolean => column > 0 && column < 8;
  return lines
    .map((cells) =>
      cells
        .map((cell, column) => (isNumber(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
