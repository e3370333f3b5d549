/** The newest windows of the chosen metric: status in words, and the numbers behind the picture. */
import { badge, byId, make, setRows, setText, tableRow } from './dom.ts';
import { formatCount, formatLost, formatTime, formatValue } from './format.ts';
import { newestWindows, type Line, type WindowSummary } from './lines.ts';

const WINDOWS_SHOWN = 6;
/** Every window waits for a commit or two; past this somebody may want to know for whom. */
const OVERDUE_MS = 20_000;

export interface WindowTableInput {
  readonly lines: readonly Line[];
  readonly sizeMs: number;
  /** Gateways that hold windows open. */
  readonly waitingFor: readonly string[];
  readonly nowMs: number;
}

export function showWindows({ lines, sizeMs, waitingFor, nowMs }: WindowTableInput): void {
  const windows = newestWindows(lines, WINDOWS_SHOWN);
  const overdue = windows.filter(({ status, startMs }) => status === 'provisional' && startMs + sizeMs + OVERDUE_MS <= nowMs);
  const waiting = byId('windows-waiting');
  waiting.hidden = overdue.length === 0 || waitingFor.length === 0;
  setText(waiting, `Waiting for ${namesOf(waitingFor)}: older readings may still come from there.`);
  setRows(
    byId('windows-rows'),
    windows.map((window) => windowRow(window, sizeMs, waitingFor, nowMs)),
  );
}

function namesOf(gateways: readonly string[]): string {
  const shown = gateways.slice(0, 3).join(', ');
  return gateways.length > 3 ? `${shown} and ${gateways.length - 3} more gateways` : `gateway${gateways.length === 1 ? '' : 's'} ${shown}`;
}

function closedCell({ status, lost, lostIsEstimate, complete }: WindowSummary): Node[] {
  if (complete) return [badge(status, 'good')];
  const isUnknown = lost === 0;
  const words = isUnknown ? 'may miss readings' : `misses ${formatLost(lost, lostIsEstimate)}`;
  return [badge(status, isUnknown ? 'warn' : 'bad'), make('span', { class: isUnknown ? 'why' : 'why bad' }, words)];
}

function statusCell(window: WindowSummary, sizeMs: number, waitingFor: readonly string[], nowMs: number): Node[] {
  const { status, startMs } = window;
  if (status !== 'provisional') return closedCell(window);
  const isRunning = startMs + sizeMs > nowMs;
  const why = isRunning
    ? 'still running'
    : waitingFor.length > 0
      ? `waiting for ${waitingFor.slice(0, 2).join(', ')}`
      : 'waiting for the gateways';
  return [badge('provisional', startMs + sizeMs + OVERDUE_MS <= nowMs ? 'warn' : 'plain'), make('span', { class: 'why' }, why)];
}

function lostCell({ lost, lostIsEstimate }: WindowSummary): Node | string {
  const text = formatLost(lost, lostIsEstimate);
  return lost === 0 ? text : make('b', { class: 'bad' }, text);
}

function windowRow(window: WindowSummary, sizeMs: number, waitingFor: readonly string[], nowMs: number): HTMLTableRowElement {
  return tableRow([
    { label: 'From', content: formatTime(window.startMs, nowMs) },
    { label: 'Status', content: statusCell(window, sizeMs, waitingFor, nowMs) },
    { label: 'Readings', number: true, content: formatCount(window.count) },
    { label: 'Mean', number: true, content: formatValue(window.mean) },
    { label: 'Min', number: true, isMinor: true, content: formatValue(window.min) },
    { label: 'Max', number: true, isMinor: true, content: formatValue(window.max) },
    { label: 'Missing', number: true, isMinor: true, content: lostCell(window) },
  ]);
}
