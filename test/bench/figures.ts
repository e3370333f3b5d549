/**
 * What a benchmark answers: figures with their spread over rounds, and ratios to a reference measured in the same rounds.
 *
 * A figure is one metric of one subject (ours, or a peer) in one case of the load. Ratios are taken round by round and
 * only then reduced to a median, so that a machine that is slow for a while slows both sides.
 */
import { median } from '../process-tools.ts';
import type { Machine } from './machine.ts';
import type { HotThread } from './profile-summary.ts';

/** What a value or a ratio should be; shown beside it, never a reason to fail. */
export interface Wanted {
  readonly of: 'value' | 'ratio';
  readonly atLeast?: number;
  readonly atMost?: number;
}

export interface Figure {
  /** The load: `20 × 100, 1 reading`. */
  readonly case: string;
  /** Whom it was put on: `Sluice`, `mosquitto, in memory`. */
  readonly name: string;
  /** What was measured: `messages`, `ack p99`. */
  readonly metric: string;
  readonly unit: string;
  /** Median over the rounds. */
  readonly value: number;
  /** Least and greatest round. */
  readonly spread: readonly [number, number];
  /** Name whose figure of the same case and metric `ratio` divides by. */
  readonly reference?: string;
  readonly ratio?: number;
  readonly ratioSpread?: readonly [number, number];
  readonly wanted?: Wanted;
}

/** A chart is one metric of all names, grouped by case. */
export interface ChartSpec {
  readonly metric: string;
  readonly title: string;
}

/** When, where and how a result was measured. */
export interface BenchRun {
  readonly machine: Machine;
  /** As somebody would type it. */
  readonly command: string;
  /** Loads of seconds, so that starting and compiling weigh more than in the long form. */
  readonly isShort: boolean;
}

export interface BenchResult {
  readonly run: BenchRun;
  readonly name: string;
  readonly title: string;
  /** How it was measured, as a reader who doubts it wants to know: markdown, one paragraph. */
  readonly method: string;
  readonly rounds: number;
  readonly figures: readonly Figure[];
  /** Peers that were absent, what the figures do not say. */
  readonly notes: readonly string[];
  readonly chart: ChartSpec | null;
  /** From a profiled pass of its own; empty without one. */
  readonly hotThreads: readonly HotThread[];
}

export interface BenchOptions {
  readonly rounds: number;
  /** A quick look: fewer cases, shorter rounds. */
  readonly isShort: boolean;
  /** Where our processes leave CPU profiles; null: no profiling. */
  readonly profileDir: string | null;
  readonly log: (line: string) => void;
}

export type Measured = Omit<BenchResult, 'run' | 'name' | 'title' | 'rounds' | 'hotThreads'>;

/** Collects the rounds of all figures of a benchmark. */
export class Samples {
  readonly #rows: { case: string; name: string; metric: string; unit: string; values: number[] }[] = [];
  readonly #ratios: { case: string; name: string; metric: string; reference: string }[] = [];
  readonly #wanted: { case: string; name: string; metric: string; wanted: Wanted }[] = [];

  /** A value that is not a number was not measured, and shows as missing. */
  add(caseName: string, name: string, metric: string, unit: string, value: number): void {
    if (!Number.isFinite(value)) return;
    const row = this.#find(caseName, name, metric);
    if (row === undefined) this.#rows.push({ case: caseName, name, metric, unit, values: [value] });
    else row.values.push(value);
  }

  /** The figure is also told as a multiple of the reference's; nothing happens when either was not measured. */
  compare(caseName: string, name: string, metric: string, reference: string, wanted: Omit<Wanted, 'of'> | null = null): void {
    this.#ratios.push({ case: caseName, name, metric, reference });
    if (wanted !== null) this.want(caseName, name, metric, { of: 'ratio', ...wanted });
  }

  want(caseName: string, name: string, metric: string, wanted: Wanted): void {
    this.#wanted.push({ case: caseName, name, metric, wanted });
  }

  /** In the order in which they were first added. */
  figures(): Figure[] {
    return this.#rows.map((row): Figure => {
      const figure = {
        case: row.case,
        name: row.name,
        metric: row.metric,
        unit: row.unit,
        value: median(row.values),
        spread: spreadOf(row.values),
      };
      const wanted = this.#wanted.find((other) => isSame(other, row))?.wanted;
      const reference = this.#ratios.find((other) => isSame(other, row))?.reference;
      const others = reference === undefined ? undefined : this.#find(row.case, reference, row.metric)?.values;
      if (reference === undefined || others === undefined) {
        return wanted === undefined || wanted.of === 'ratio' ? figure : { ...figure, wanted };
      }
      const ratios = row.values.map((value, round) => value / (others[round] ?? median(others)));
      return { ...figure, reference, ratio: median(ratios), ratioSpread: spreadOf(ratios), ...(wanted === undefined ? {} : { wanted }) };
    });
  }

  #find(caseName: string, name: string, metric: string) {
    return this.#rows.find((row) => row.case === caseName && row.name === name && row.metric === metric);
  }
}

function isSame(a: { case: string; name: string; metric: string }, b: { case: string; name: string; metric: string }): boolean {
  return a.case === b.case && a.name === b.name && a.metric === b.metric;
}

function spreadOf(values: readonly number[]): readonly [number, number] {
  return [Math.min(...values), Math.max(...values)];
}

export function isMet(figure: Figure): boolean | null {
  const { wanted } = figure;
  if (wanted === undefined) return null;
  const value = wanted.of === 'ratio' ? figure.ratio : figure.value;
  if (value === undefined) return false;
  return value >= (wanted.atLeast ?? -Infinity) && value <= (wanted.atMost ?? Infinity);
}

/** Three digits that count; thousands apart. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString('en-US', { minimumFractionDigits: Math.min(digits, 4), maximumFractionDigits: Math.min(digits, 4) });
}

function formatSpread([least, greatest]: readonly [number, number]): string {
  return least === greatest ? '' : ` (${formatNumber(least)} … ${formatNumber(greatest)})`;
}

function formatWanted({ of, atLeast, atMost }: Wanted): string {
  const bound = atLeast === undefined ? `≤ ${formatNumber(atMost ?? NaN)}` : `≥ ${formatNumber(atLeast)}`;
  return of === 'ratio' ? `× ${bound}` : bound;
}

/** Rows of a table: one per case and name, a column per metric. */
export function valueTable(figures: readonly Figure[]): string[][] {
  const metrics = [...new Map(figures.map((figure) => [figure.metric, figure.unit]))];
  const keys = new Map(figures.map((figure) => [`${figure.case}\u0000${figure.name}`, figure]));
  const rows = [...keys.values()].map((key) => [
    key.case,
    key.name,
    ...metrics.map(([metric]) => {
      const figure = figures.find((other) => isSame(other, { ...key, metric }));
      return figure === undefined ? '' : `${formatNumber(figure.value)}${formatSpread(figure.spread)}`;
    }),
  ]);
  return [['case', 'subject', ...metrics.map(([metric, unit]) => (unit === '' ? metric : `${metric}, ${unit}`))], ...rows];
}

/** Rows of a table: the ratios, and what was wanted. */
export function ratioTable(figures: readonly Figure[]): string[][] {
  const rows = figures
    .filter((figure) => figure.ratio !== undefined || figure.wanted !== undefined)
    .map((figure) => {
      const met = isMet(figure);
      return [
        figure.case,
        `${figure.name}: ${figure.metric}`,
        figure.ratio === undefined || figure.ratioSpread === undefined
          ? `${formatNumber(figure.value)}${figure.unit === '' ? '' : ` ${figure.unit}`}`
          : `× ${formatNumber(figure.ratio)}${formatSpread(figure.ratioSpread)} of ${figure.reference ?? ''}`,
        figure.wanted === undefined ? '' : formatWanted(figure.wanted),
        met === null ? '' : met ? 'yes' : 'no',
      ];
    });
  return rows.length === 0 ? [] : [['case', 'figure', 'measured', 'wanted', 'met'], ...rows];
}

/** Rows of a table: where a profiled pass spent its time. */
export function hotTable(threads: readonly HotThread[]): string[][] {
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
  const rows = threads.map(({ thread, share, functions }) => [
    thread,
    percent(share),
    functions.map((hot) => `${hot.name} ${percent(hot.share)}`).join(', '),
  ]);
  return rows.length === 0 ? [] : [['thread', 'of the busy time', 'where, share of the thread'], ...rows];
}

export function asText(table: readonly (readonly string[])[]): string {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column].length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd();
  return table.map((row) => `  ${line(row)}\n`).join('');
}

export function asMarkdown(table: readonly (readonly string[])[]): string {
  const line = (row: readonly string[]): string => `| ${row.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const [head, ...rows] = table;
  return head === undefined ? '' : [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}
