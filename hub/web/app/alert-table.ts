/** Alerts that fire or may soon: what is wrong now. */
import type { AlertRow, AlertsAnswer } from './answers.ts';
import { badge, byId, make, setRows, setText, tableRow } from './dom.ts';
import { formatDuration, formatTime } from './format.ts';

const ALERTS_SHOWN = 20;
const TONES = { info: 'plain', warning: 'warn', critical: 'bad' } as const;

export function showAlerts({ rows, next_cursor }: AlertsAnswer, nowMs: number): void {
  const firing = rows.filter(({ state }) => state === 'firing');
  const shown = [...firing, ...rows.filter(({ state }) => state !== 'firing')].slice(0, ALERTS_SHOWN);
  byId('alerts-panel').hidden = rows.length === 0;
  const more = next_cursor === null ? '' : ' or more';
  setText(byId('alerts-note'), shown.length < rows.length ? `${shown.length} of ${rows.length}${more}` : '');
  setRows(
    byId('alerts-rows'),
    shown.map((row) => alertRow(row, nowMs)),
  );
}

function alertRow(row: AlertRow, nowMs: number): HTMLTableRowElement {
  const sinceMs = Date.parse(row.since);
  const about = [row.gateway, row.device, row.metric].filter((name) => name !== null).join(', ');
  const tone = row.state === 'firing' ? TONES[row.severity] : 'plain';
  return tableRow([
    { label: 'Rule', content: [row.rule, row.summary === '' ? null : make('small', {}, row.summary)] },
    { label: 'State', content: badge(row.state === 'firing' ? row.severity : 'pending', tone) },
    { label: 'Gateway, device, metric', content: about === '' ? 'more than are shown' : about },
    { label: 'Value', number: true, content: row.value === null ? '–' : String(Number(row.value.toPrecision(6))) },
    { label: 'Since', content: [formatTime(sinceMs, nowMs), make('small', {}, formatDuration(Math.max(0, nowMs - sinceMs)))] },
  ]);
}
