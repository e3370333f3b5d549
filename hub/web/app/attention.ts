/** What is wrong, in a line each, worst first: what an operator wants to know before anything else. */
import type { AlertsAnswer, ExceptionsAnswer, GatewayRow, GatewaysAnswer } from './answers.ts';
import { byId, make } from './dom.ts';
import { formatCount, formatDuration, plural } from './format.ts';

/** Beyond it windows and quarantine at the gateway differ from what the hub's clock says. */
export const CLOCK_OFFSET_SECONDS_MAX = 2;
/** A gateway that delivers is seconds behind: sealing (10 s on a metered link) and a commit. */
const LAG_SECONDS_MAX = 60;
/** A gateway says how it is every second, every minute at the slowest; after 90 s the hub gives its connection up. */
const SILENCE_MS_MAX = 70_000;
/** Commits come every 60 s at the latest, where a store is slow. */
const COMMIT_AGE_MS_MAX = 180_000;
const DAY_MS = 86_400_000;
/** More gateways than these are a number. */
const NAMES_SHOWN = 2;

export interface Fault {
  readonly tone: 'bad' | 'warn';
  readonly text: string;
  /** Where on the page the rest is. */
  readonly place: 'alerts' | 'gateways' | 'exceptions';
}

/** As far as they have been asked for. */
export interface Known {
  readonly gateways: GatewaysAnswer | null;
  readonly alerts: AlertsAnswer | null;
  readonly exceptions: ExceptionsAnswer | null;
}

export function faultsOf({ gateways, alerts, exceptions }: Known, nowMs: number): Fault[] {
  const faults = [...alertFaults(alerts), ...(gateways === null ? [] : gatewayFaults(gateways)), ...exceptionFaults(exceptions, nowMs)];
  return faults.sort((a, b) => Number(b.tone === 'bad') - Number(a.tone === 'bad'));
}

function alertFaults(alerts: AlertsAnswer | null): Fault[] {
  const firing = alerts?.rows.filter(({ state }) => state === 'firing') ?? [];
  if (firing.length === 0) return [];
  const more = alerts?.next_cursor === null ? '' : 'at least ';
  const isCritical = firing.some(({ severity }) => severity === 'critical');
  return [{ tone: isCritical ? 'bad' : 'warn', place: 'alerts', text: `${more}${plural(firing.length, 'alert fires', 'alerts fire')}` }];
}

/** `a`, `a and b`, `3 gateways`. */
function named(rows: readonly GatewayRow[]): string {
  return rows.length > NAMES_SHOWN ? `${formatCount(rows.length)} gateways` : rows.map(({ gateway }) => gateway).join(' and ');
}

function gatewayFaults({ time, hub, rows }: GatewaysAnswer): Fault[] {
  const nowMs = Date.parse(time);
  const faults: Fault[] = [];
  const say = (tone: Fault['tone'], of: readonly GatewayRow[], text: (verb: string) => string): void => {
    if (of.length > 0) faults.push({ tone, place: 'gateways', text: `${named(of)} ${text(of.length === 1 ? 'is' : 'are')}` });
  };
  const hasLane = (status: string) => (row: GatewayRow) => row.lanes.some((lane) => lane.status === status);
  const commitAgeMs = hub.last_commit === null ? Infinity : nowMs - Date.parse(hub.last_commit);
  if (hub.pending_readings > 0 && commitAgeMs > COMMIT_AGE_MS_MAX && hub.last_commit !== null)
    faults.push({ tone: 'bad', place: 'gateways', text: `nothing was committed for ${formatDuration(commitAgeMs)}` });
  say('bad', rows.filter(hasLane('forked')), (verb) => `${verb} of a restored image: what it holds waits for your word (sluice-hub lanes)`);
  say('bad', rows.filter(hasLane('upgrade_hub')), (verb) => `${verb} newer than this hub: upgrade it`);
  const away = rows.filter(({ connected }) => !connected);
  const heardMs = Math.max(...away.map((row) => (row.last_contact === null ? -Infinity : Date.parse(row.last_contact))));
  const heard = Number.isFinite(heardMs) ? `, heard ${formatDuration(Math.max(0, nowMs - heardMs))} ago` : '';
  say('bad', away, (verb) => `${verb} not connected${heard}`);
  const silenceMs = ({ last_contact }: GatewayRow): number => (last_contact === null ? 0 : nowMs - Date.parse(last_contact));
  const silent = rows.filter((row) => row.connected && silenceMs(row) > SILENCE_MS_MAX);
  say('bad', silent, (verb) => `${verb} silent for ${formatDuration(Math.max(...silent.map(silenceMs)))}`);
  const late = rows.filter((row) => row.connected && !silent.includes(row) && (row.lag_seconds ?? 0) > LAG_SECONDS_MAX);
  const behind = Math.max(...late.map((row) => row.lag_seconds ?? 0));
  const waiting = late.reduce((sum, row) => sum + (row.backlog?.readings ?? 0), 0);
  say('warn', late, (verb) => `${verb} ${formatDuration(behind * 1000)} behind, ${plural(waiting, 'reading', 'readings')} to come`);
  const unset = rows.filter(({ clock }) => clock !== null && (clock.state === 'unknown' || clock.offset_seconds === null));
  say('warn', unset, (verb) => `${verb} without a clock: readings wait for the time`);
  const off = rows.filter(({ clock }) => clock !== null && !(Math.abs(clock.offset_seconds ?? 0) <= CLOCK_OFFSET_SECONDS_MAX));
  const offset = Math.max(...off.map(({ clock }) => Math.abs(clock?.offset_seconds ?? 0)));
  say('warn', off, (verb) => `${verb} off by ${formatDuration(offset * 1000)} from the hub's clock`);
  if (hub.uplinks_paused) faults.push({ tone: 'warn', place: 'gateways', text: 'gateways are held back: more comes than is committed' });
  return faults;
}

function exceptionFaults(exceptions: ExceptionsAnswer | null, nowMs: number): Fault[] {
  const recent = exceptions?.rows.filter(({ ingested_at }) => Date.parse(ingested_at) > nowMs - DAY_MS) ?? [];
  const isAll = exceptions?.next_cursor === null || recent.length < (exceptions?.rows.length ?? 0);
  const faults: Fault[] = [];
  const say = (kind: string, tone: Fault['tone'], one: string, many: string): void => {
    const own = recent.filter((row) => row.kind === kind && !row.released);
    const count = own.reduce((sum, row) => sum + (row.reading_count ?? 0), 0);
    if (own.length === 0) return;
    const isKnown = isAll && own.every(({ reading_count }) => reading_count !== null);
    const text = count === 0 ? `${many}, how many is unknown` : `${isKnown ? '' : 'at least '}${plural(count, one, many)}`;
    faults.push({ tone, place: 'exceptions', text: `${text}, in 24 hours` });
  };
  say('gap', 'bad', 'reading lost', 'readings lost');
  const letters = recent.filter(({ kind }) => kind === 'dead_letter').length;
  if (letters > 0) {
    const text = `${isAll ? '' : 'at least '}${plural(letters, 'message', 'messages')} not understood, in 24 hours`;
    faults.push({ tone: 'warn', place: 'exceptions', text });
  }
  say('quarantined', 'warn', 'reading with an impossible time', 'readings with an impossible time');
  return faults;
}

/** null: not everything has been asked for yet. */
export function allWell({ gateways, alerts, exceptions }: Known): string | null {
  if (gateways === null || alerts === null || exceptions === null || gateways.rows.length === 0) return null;
  const lag = Math.max(0, ...gateways.rows.map((row) => row.lag_seconds ?? 0));
  const count = gateways.rows.length;
  const who = count === 1 ? 'the gateway is connected' : `all ${formatCount(count)} gateways are connected`;
  return `Nothing needs attention: ${who}, ${formatDuration(lag * 1000)} behind, nothing missing in 24 hours`;
}

export class Attention {
  #known: Known = { gateways: null, alerts: null, exceptions: null };

  constructor() {
    byId('attention').addEventListener('click', (event) => {
      const id = event.target instanceof HTMLAnchorElement ? event.target.hash.slice(1) : '';
      if (id === '') return;
      // The address says what the chart shows: going somewhere on the page does not change it.
      event.preventDefault();
      byId(id).scrollIntoView({ block: 'start' });
    });
  }

  show(news: Partial<Known>, nowMs: number): void {
    this.#known = { ...this.#known, ...news };
    const faults = faultsOf(this.#known, nowMs);
    const well = faults.length === 0 ? allWell(this.#known) : null;
    const list = byId('attention');
    list.hidden = faults.length === 0 && well === null;
    const items = faults.map(({ tone, text, place }) => make('li', { class: tone }, make('a', { href: `#${place}-heading` }, text)));
    const next = make('ul', {}, ...(well === null ? items : [make('li', { class: 'good' }, well)]));
    if (next.innerHTML !== list.innerHTML) list.replaceChildren(...next.childNodes);
  }
}
