/** Alerts that fire or may soon: what is wrong now. */
import type { AlertRow, AlertsAnswer } from './answers.ts';
import { badge, byId, make, setRows, setText, tableRow, type Child } from './dom.ts';
import { formatBytes, formatDuration, formatTime, formatValue } from './format.ts';

const ALERTS_SHOWN = 20;
const TONES = { info: 'plain', warning: 'warn', critical: 'bad' } as const;

export function showAlerts({ rows, next_cursor }: AlertsAnswer, nowMs: number): void {
  // Of equal ones the newest change is first, as it came.
  const shown = [...rows].sort((a, b) => rank(a) - rank(b)).slice(0, ALERTS_SHOWN);
  byId('alerts-panel').hidden = rows.length === 0;
  const more = next_cursor === null ? '' : ' or more';
  setText(byId('alerts-note'), shown.length < rows.length ? `${shown.length} of ${rows.length}${more}` : '');
  setRows(
    byId('alerts-rows'),
    shown.map((row) => alertRow(row, nowMs)),
  );
}

const SEVERITIES: readonly string[] = ['critical', 'warning', 'info'];

/** What fires before what may, the worst first. */
function rank({ state, severity }: AlertRow): number {
  return (state === 'firing' ? 0 : SEVERITIES.length) + SEVERITIES.indexOf(severity);
}

function alertRow(row: AlertRow, nowMs: number): HTMLTableRowElement {
  const sinceMs = Date.parse(row.since);
  const tone = row.state === 'firing' ? TONES[row.severity] : 'plain';
  return tableRow([
    { label: 'Rule', content: make('span', {}, row.rule, row.summary === '' ? null : make('small', {}, row.summary)) },
    { label: 'State', content: [badge(row.state, tone), make('small', {}, row.severity)] },
    { label: 'Series', content: seriesOf(row) },
    {
      label: 'Value',
      number: true,
      content: [valueText(row), row.condition === '' ? null : make('small', {}, row.condition)],
    },
    { label: 'Since', content: [formatTime(sinceMs, nowMs), make('small', {}, formatDuration(Math.max(0, nowMs - sinceMs)))] },
  ]);
}

/** Without a window and for silence it is seconds, but for what a gateway holds. */
function valueText({ value, window, cause, condition }: AlertRow): string {
  if (value === null) return '–';
  if (condition.startsWith('backlog')) return formatBytes(value);
  return cause === 'silence' || (window === null && cause !== 'rule') ? formatDuration(value * 1000) : formatValue(value);
}

/** What it is about; where that is a metric, a way to its chart. */
function seriesOf({ gateway, device, metric, tags, window }: AlertRow): readonly Child[] {
  const tagTexts = Object.entries(tags ?? {}).map(([key, value]) => `${key}: ${value}`);
  const place = [device, gateway, ...tagTexts].filter((name) => name !== null).join(', ');
  if (metric === null) return [place === '' ? 'more than are shown' : place];
  const view = new URLSearchParams({ metric, ...(window === null ? {} : { window }), ...(device === null ? {} : { device }) });
  return [make('a', { href: `#${view.toString()}` }, metric), place === '' ? null : make('small', {}, place)];
}
