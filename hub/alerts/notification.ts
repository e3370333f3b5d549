/**
 * What receivers are told of alerts. Pure: which ones are due, and the bodies that say so.
 *
 * Labels are those that PromQL has for the series (hub/promql/labels.ts), with `alertname` (the rule), `severity` and the
 * rule's own. The identity of an alert wins over a rule's label of the same name: two alerts would be one otherwise.
 */
import { nameMatcher } from '../name-patterns.ts';
import { seriesLabels, sortedLabels, type Labels } from '../promql/labels.ts';
import type { Alert } from './alert.ts';
import type { AlertBook } from './alert-book.ts';
import type { Receiver } from './receiver.ts';

/** Alerts of one request: making it takes 1 to 3 ms. */
const ALERTS_PER_REQUEST = 50;
/** An Alertmanager that is not told again for so many repeats takes the alert for resolved; Prometheus says four as well. */
const REPEATS_UNTIL_FORGOTTEN = 4;
/** Repeats that are due are looked for so often, or as often as they repeat. */
export const REPEAT_CHECK_MS_MAX = 60_000;
const RESERVED_LABELS: ReadonlySet<string> = new Set(['alertname', 'severity']);

/** Everything up to here has been delivered: by version, within one by rule, then by id. */
export interface Place {
  readonly version: number;
  readonly rule: string;
  readonly id: string;
}

export interface Delivered extends Place {
  /** Hub wall clock: what was resolved before the receiver was there is not its business. */
  readonly createdUs: number;
  /** Hub wall clock up to which repeats have been delivered. */
  readonly repeatedUs: number;
}

export interface Due {
  /** In no order. */
  readonly changes: readonly Alert[];
  readonly repeats: readonly Alert[];
}

export function isBehind(a: Place, b: Place): boolean {
  if (a.version !== b.version) return a.version > b.version;
  return a.rule === b.rule ? a.id > b.id : a.rule > b.rule;
}

/** Pending alerts are nobody's business yet: those that fire, and those that have fired and ended. */
export function dueOf(book: AlertBook, receiver: Receiver, delivered: Delivered, nowUs: number): Due {
  const isWanted = receiverFilter(receiver);
  const changes = book
    .changedSince(delivered.version - 1)
    .filter((alert) => isBehind(alert, delivered) && isWanted(alert) && isTold(alert, receiver, delivered));
  return { changes, repeats: repeatsOf(book, receiver, delivered, nowUs).filter(isWanted) };
}

function isTold({ state, firedUs, updatedUs }: Alert, { sendResolved }: Receiver, { createdUs }: Delivered): boolean {
  if (state === 'firing') return true;
  return state === 'resolved' && firedUs !== null && sendResolved && updatedUs > createdUs;
}

/** Each alert at multiples of the interval since its last change. */
function repeatsOf(book: AlertBook, { repeatIntervalMs }: Receiver, delivered: Delivered, nowUs: number): Alert[] {
  const intervalUs = repeatIntervalMs * 1000;
  // A clock that was set back repeats from there.
  const lastUs = Math.min(delivered.repeatedUs, nowUs);
  if (nowUs - lastUs < Math.min(intervalUs, REPEAT_CHECK_MS_MAX * 1000)) return [];
  const times = (us: number, { updatedUs }: Alert): number => Math.max(0, Math.floor((us - updatedUs) / intervalUs));
  return book
    .holding(null)
    .filter((alert) => alert.state === 'firing' && !isBehind(alert, delivered) && times(nowUs, alert) > times(lastUs, alert));
}

function receiverFilter({ severities, rules }: Receiver): (alert: Alert) => boolean {
  const matches = rules === undefined ? () => true : nameMatcher(rules);
  return ({ severity, rule }) => (severities?.includes(severity) ?? true) && matches(rule);
}

/** Runs that one request says, in their order; of a webhook those of one rule. */
export function requestsOf(alerts: readonly Alert[], { kind }: Receiver): readonly (readonly Alert[])[] {
  const requests: Alert[][] = [];
  for (const alert of [...alerts].sort((a, b) => (isBehind(a, b) ? 1 : -1))) {
    const last = requests.at(-1);
    const fits = last !== undefined && last.length < ALERTS_PER_REQUEST && (kind === 'alertmanager' || last[0].rule === alert.rule);
    if (fits) last.push(alert);
    else requests.push([alert]);
  }
  return requests;
}

/** @param externalUrl where people reach the hub's page; null: no links */
export function bodyOf(alerts: readonly Alert[], receiver: Receiver, externalUrl: string | null, nowUs: number): unknown {
  return receiver.kind === 'alertmanager'
    ? alerts.map((alert) => alertmanagerAlert(alert, receiver, externalUrl, nowUs))
    : webhookMessage(alerts, receiver, externalUrl);
}

/** `POST /api/v2/alerts` of Alertmanager. */
function alertmanagerAlert(alert: Alert, { repeatIntervalMs }: Receiver, externalUrl: string | null, nowUs: number) {
  const endsUs = alert.state === 'resolved' ? endOf(alert) : nowUs + REPEATS_UNTIL_FORGOTTEN * repeatIntervalMs * 1000;
  return {
    labels: Object.fromEntries(labelsOf(alert)),
    annotations: annotationsOf(alert),
    startsAt: timeOf(startOf(alert)),
    endsAt: timeOf(endsUs),
    ...(externalUrl === null ? {} : { generatorURL: linkTo(alert, externalUrl) }),
  };
}

/** Version 4 of what Alertmanager's webhook_config sends. */
function webhookMessage(alerts: readonly Alert[], { name }: Receiver, externalUrl: string | null) {
  const rows = alerts.map((alert) => {
    const labels = labelsOf(alert);
    return {
      status: alert.state === 'resolved' ? 'resolved' : 'firing',
      labels: Object.fromEntries(labels),
      annotations: annotationsOf(alert),
      startsAt: timeOf(startOf(alert)),
      endsAt: alert.state === 'resolved' ? timeOf(endOf(alert)) : '0001-01-01T00:00:00Z',
      generatorURL: externalUrl === null ? '' : linkTo(alert, externalUrl),
      fingerprint: fingerprintOf(labels),
    };
  });
  const [{ rule }] = alerts;
  return {
    version: '4',
    groupKey: `{}:{alertname=${JSON.stringify(rule)}}`,
    truncatedAlerts: 0,
    status: rows.some(({ status }) => status === 'firing') ? 'firing' : 'resolved',
    receiver: name,
    groupLabels: { alertname: rule },
    commonLabels: common(rows.map(({ labels }) => labels)),
    commonAnnotations: common(rows.map(({ annotations }) => annotations)),
    externalURL: externalUrl ?? '',
    alerts: rows,
  };
}

function common(records: readonly Readonly<Record<string, string>>[]): Record<string, string> {
  return Object.fromEntries(Object.entries(records[0]).filter(([name, value]) => records.every((record) => record[name] === value)));
}

function labelsOf(alert: Alert): Labels {
  const series = [...seriesLabels(alert.gateway ?? '', alert.device ?? '', alert.metric ?? '', alert.tags)].flatMap(
    ([name, value]): [string, string][] => {
      if (name === '__name__') return [];
      return [[RESERVED_LABELS.has(name) ? `exported_${name}` : name, value]];
    },
  );
  return sortedLabels(new Map([...Object.entries(alert.labels), ['severity', alert.severity], ...series, ['alertname', alert.rule]]));
}

function annotationsOf(alert: Alert): Record<string, string> {
  const about = [alert.metric, alert.device, alert.gateway].filter((name) => name !== null).join(' of ');
  const value = alert.value === null ? '' : String(Number(alert.value.toPrecision(6)));
  const description = [about, value === '' ? '' : `value ${value}`, alert.condition].filter((text) => text !== '').join(', ');
  return {
    ...(alert.summary === '' ? {} : { summary: alert.summary }),
    description,
    ...(value === '' ? {} : { value }),
  };
}

/** Of the hub's page: the metric around the time that the alert is about. */
function linkTo({ metric, device, window }: Alert, externalUrl: string): string {
  const parameters = new URLSearchParams({
    ...(metric === null ? {} : { metric }),
    ...(window === null ? {} : { window }),
    ...(device === null ? {} : { device }),
  }).toString();
  return parameters === '' ? externalUrl : `${externalUrl}#${parameters}`;
}

function startOf({ firedUs, sinceUs }: Alert): number {
  return firedUs ?? sinceUs;
}

/** Late readings may end an alert at a window before the one that it fired by; Alertmanager refuses an end before the start. */
function endOf(alert: Alert): number {
  return Math.max(startOf(alert), alert.resolvedUs ?? alert.updatedUs);
}

function timeOf(us: number): string {
  return new Date(Math.floor(us / 1000)).toISOString();
}

/** As Prometheus has it: FNV-1a, 64 bits, over names and values, a byte 0xff behind each. In halves: BigInt takes three times as long. */
function fingerprintOf(labels: Labels): string {
  let [high, low] = [0xcbf29ce4, 0x84222325];
  for (const pair of labels) {
    for (const text of pair) {
      for (const byte of [...Buffer.from(text), 0xff]) {
        low = (low ^ byte) >>> 0;
        // Times 2 ** 40 + 0x1b3.
        const product = low * 0x1b3;
        high = (high * 0x1b3 + Math.floor(product / 2 ** 32) + ((low << 8) >>> 0)) % 2 ** 32;
        low = product % 2 ** 32;
      }
    }
  }
  return [high, low].map((half) => half.toString(16).padStart(8, '0')).join('');
}
