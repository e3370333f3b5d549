/** The gateways as the hub sees them: who is there, what is still on its way. */
import type { GatewayLane, GatewayRow, GatewaysAnswer } from './answers.ts';
import { CLOCK_OFFSET_SECONDS_MAX } from './attention.ts';
import { badge, byId, make, setRows, setText, tableRow } from './dom.ts';
import { formatBytes, formatCount, formatDuration, plural } from './format.ts';

/** A page is read by eyes: the ones that need them first, then the names. */
const GATEWAYS_SHOWN = 200;
const LANES_SHOWN = 4;

export function showGateways({ time, rows }: GatewaysAnswer): void {
  const hubMs = Date.parse(time);
  const connected = rows.filter((row) => row.connected).length;
  const note =
    rows.length === 0 ? '' : `${connected} of ${rows.length} connected${rows.length > GATEWAYS_SHOWN ? `, ${GATEWAYS_SHOWN} shown` : ''}`;
  setText(byId('gateways-note'), note);
  byId('gateways-scroll').hidden = rows.length === 0;
  byId('gateways-none').hidden = rows.length > 0;
  const sorted = [...rows].sort(
    (a, b) => Number(a.connected) - Number(b.connected) || a.gateway.localeCompare(b.gateway, 'en', { numeric: true }),
  );
  setRows(
    byId('gateways-rows'),
    sorted.slice(0, GATEWAYS_SHOWN).map((row) => gatewayRow(row, hubMs)),
  );
}

function gatewayRow(row: GatewayRow, hubMs: number): HTMLTableRowElement {
  const { backlog } = row;
  return tableRow([
    { label: 'Gateway', content: row.gateway, title: row.version === null ? 'not heard since this hub started' : `version ${row.version}` },
    { label: 'State', content: stateBadge(row) },
    { label: 'Lag', number: true, content: row.lag_seconds === null ? '–' : formatDuration(row.lag_seconds * 1000) },
    {
      label: 'Backlog',
      number: true,
      content: backlog === null ? '–' : [plural(backlog.readings, 'reading', 'readings'), make('small', {}, formatBytes(backlog.bytes))],
    },
    { label: 'Clock', number: true, content: clockCell(row) },
    {
      label: 'Last contact',
      number: true,
      content:
        row.last_contact === null ? 'not since the start' : `${formatDuration(Math.max(0, hubMs - Date.parse(row.last_contact)))} ago`,
    },
    { label: 'Lanes', content: laneCells(row.lanes) },
  ]);
}

function stateBadge(row: GatewayRow): HTMLElement {
  if (row.lanes.some(({ status }) => status === 'forked')) return badge('forked', 'bad');
  if (row.lanes.some(({ status }) => status === 'upgrade_hub')) return badge('newer than this hub', 'bad');
  return row.connected ? badge('connected', 'good') : badge('not connected', 'warn');
}

function clockCell({ clock }: GatewayRow): Node | string {
  if (clock === null) return '–';
  if (clock.state === 'unknown' || clock.offset_seconds === null) return make('span', { class: 'warn' }, 'not set');
  const offsetMs = Math.round(clock.offset_seconds * 1000);
  const text = `${offsetMs < 0 ? '−' : offsetMs > 0 ? '+' : ''}${formatDuration(Math.abs(offsetMs))}`;
  return Math.abs(clock.offset_seconds) > CLOCK_OFFSET_SECONDS_MAX ? make('span', { class: 'bad' }, text) : text;
}

function laneCells(lanes: readonly GatewayLane[]): (Node | string)[] {
  if (lanes.length === 0) return ['–'];
  // Of an epoch that drains both lanes may be there; the live one is what is looked for.
  const sorted = [...lanes].sort((a, b) => Number(b.connected) - Number(a.connected) || b.lane.localeCompare(a.lane));
  const shown = sorted
    .slice(0, LANES_SHOWN)
    .map((lane) =>
      make(
        'span',
        { class: 'lane', title: `epoch ${lane.epoch}` },
        make('span', { class: 'dim' }, lane.lane),
        ` ${lane.committed === null ? '–' : formatCount(lane.committed)} / ${lane.received === null ? '–' : formatCount(lane.received)}`,
      ),
    );
  const rest = sorted.length - shown.length;
  return [...shown, ...(rest > 0 ? [make('span', { class: 'lane dim' }, `and ${rest} more`)] : [])];
}
