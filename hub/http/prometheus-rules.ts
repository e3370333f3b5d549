/**
 * Sluice's rules and alerts as `/api/v1/rules` and `/api/v1/alerts` of Prometheus have them, to look at: Grafana lists them beside
 * its own. They are set and described in full under /v1/alerts.
 *
 * Bounds: of so many alerts the newest are shown, with a warning.
 */
import type { Alert } from '../alerts/alert.ts';
import { durationMs } from '../alerts/rule.ts';
import type { RuleStatus } from '../alerts/alerts.ts';
import { badQuery } from '../promql/literals.ts';
import { sortedLabels } from '../promql/labels.ts';
import { tagsOf } from './rows-answer.ts';
import type { HubServices } from './service.ts';
import { formatTime } from './times.ts';

/** About 0.5 MB of JSON. */
const ALERTS_MAX = 1_000;

type Json = Readonly<Record<string, unknown>>;

function labelsOf({ rule, severity, labels, gateway, device, metric, tags }: Alert): Json {
  const own = Object.entries({ gateway, device, metric }).map(([name, value]) => [name, value ?? ''] as const);
  const all = [...Object.entries(tagsOf(tags) ?? {}), ...Object.entries(labels), ...own, ['severity', severity] as const];
  return Object.fromEntries(sortedLabels([...new Map([...all, ['alertname', rule] as const])]));
}

function renderAlert(alert: Alert): Json {
  return {
    labels: labelsOf(alert),
    annotations: alert.summary === '' ? {} : { summary: alert.summary },
    state: alert.state,
    activeAt: formatTime(alert.sinceUs),
    value: String(alert.value ?? NaN),
  };
}

/** Pending and firing, newest change first. */
function activeAlerts(alerts: HubServices['alerts']): { readonly shown: readonly Alert[]; readonly warnings: Json } {
  const all = { rules: null, severities: null, gateways: null, devices: null, metrics: null, fromUs: 0, toUs: Number.MAX_SAFE_INTEGER };
  const active = alerts.list({ ...all, states: ['pending', 'firing'] });
  if (active.length <= ALERTS_MAX) return { shown: active, warnings: {} };
  return { shown: active.slice(0, ALERTS_MAX), warnings: { warnings: [`${active.length} alerts, the newest ${ALERTS_MAX} are shown`] } };
}

export function alertsAnswer(alerts: HubServices['alerts']): Json {
  const { shown, warnings } = activeAlerts(alerts);
  return { status: 'success', data: { alerts: shown.map(renderAlert) }, ...warnings };
}

function renderRule({ name, rule, pending, firing }: RuleStatus, alerts: readonly Alert[]): Json {
  const { labels, severity, summary, ...watched } = rule;
  return {
    type: 'alerting',
    name,
    state: firing > 0 ? 'firing' : pending > 0 ? 'pending' : 'inactive',
    // What it watches, in Sluice's words: a rule of closed windows is no PromQL.
    query: JSON.stringify(watched),
    duration: (rule.for === undefined ? 0 : durationMs(rule.for)) / 1000,
    labels: { ...labels, severity },
    annotations: summary === '' ? {} : { summary },
    alerts: alerts.filter((alert) => alert.rule === name).map(renderAlert),
    health: 'unknown',
  };
}

/** @throws SluiceError ERR_PROMQL_INVALID */
export function rulesAnswer(alerts: HubServices['alerts'], parameters: URLSearchParams): Json {
  const type = parameters.get('type') ?? '';
  if (!['', 'alert', 'record'].includes(type)) throw badQuery(`not supported value ${JSON.stringify(type.slice(0, 40))}`);
  const names = parameters.getAll('rule_name[]');
  const wanted = alerts.rules().filter(({ name }) => type !== 'record' && (names.length === 0 || names.includes(name)));
  if (wanted.length === 0) return { status: 'success', data: { groups: [] } };
  const { shown, warnings } = activeAlerts(alerts);
  const rules = wanted.map((status) => renderRule(status, shown));
  const group = { name: 'sluice', file: '/v1/alerts/rules', interval: 0, rules };
  return { status: 'success', data: { groups: [group] }, ...warnings };
}
