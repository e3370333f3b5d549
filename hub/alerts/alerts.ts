/**
 * Alerts of a lake, for the rest of the hub: rules are set and deleted, alerts are listed and followed.
 *
 * Rounds follow each other ROUND_MS apart, one at a time, and take turns with changes of rules; a new rule is evaluated at
 * once. Everything durable is in the log (alert-log.ts), everything decided in entries.
 */
import type { Clock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { nameMatcher } from '../name-patterns.ts';
import type { AlertsCapture } from '../query/sql-api.ts';
import type { Alert, AlertState, Draft } from './alert.ts';
import type { AlertBook, StoredRule } from './alert-book.ts';
import { AlertLog, type AlertStore } from './alert-log.ts';
import { endOfRule, Evaluator, type EvaluatorParts } from './evaluator.ts';
import { RULES_MAX, watchesTheSame, type AlertRule, type Severity } from './rule.ts';

const ROUND_MS = 1_000;
/** Without rules there is nothing to do but to look whether another hub has been given one. */
const IDLE_ROUND_MS = 5_000;
/** Lost to other hubs in a row. */
const ATTEMPTS_MAX = 10;

export interface AlertsParts extends Omit<EvaluatorParts, 'log'> {
  readonly store: AlertStore;
  /** Random identity of this start of the hub. */
  readonly hubInstance: string;
}

/** null: all. In names `*` stands for any characters. */
export interface AlertFilter {
  readonly states: readonly AlertState[] | null;
  readonly rules: readonly string[] | null;
  readonly severities: readonly Severity[] | null;
  readonly gateways: readonly string[] | null;
  readonly devices: readonly string[] | null;
  readonly metrics: readonly string[] | null;
  /** Alerts that held at some time in [fromUs, toUs): from `sinceUs` until they were resolved. */
  readonly fromUs: number;
  readonly toUs: number;
}

export interface RuleStatus extends StoredRule {
  readonly name: string;
  readonly pending: number;
  readonly firing: number;
  readonly surplus: number;
}

export interface AlertFigures {
  readonly rules: number;
  readonly pending: number;
  readonly firing: number;
  readonly transitions: { readonly pending: number; readonly firing: number; readonly resolved: number };
  readonly history: number;
  readonly forgotten: number;
  readonly rounds: number;
  readonly failures: number;
  readonly durationMs: number;
  readonly surplus: number;
}

export class Alerts {
  readonly #log: AlertLog;
  readonly #evaluator: Evaluator;
  readonly #clock: Clock;
  #serial: Promise<unknown> = Promise.resolve();
  #cancelTimer: () => void = () => undefined;
  #isStopped = false;

  private constructor(log: AlertLog, evaluator: Evaluator, clock: Clock) {
    this.#log = log;
    this.#evaluator = evaluator;
    this.#clock = clock;
  }

  /** @throws SluiceError ERR_ALERT_LOG, ERR_STORE_* */
  static async start({ store, hubInstance, ...parts }: AlertsParts): Promise<Alerts> {
    const warn = (error: unknown): void =>
      parts.logger.warn({ err: error }, 'a snapshot of the alerts could not be written; the next one follows');
    const log = await AlertLog.open(store, hubInstance, warn);
    const alerts = new Alerts(log, new Evaluator({ ...parts, log }), parts.clock);
    alerts.#schedule();
    return alerts;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelTimer();
    await this.#serial;
  }

  get book(): AlertBook {
    return this.#log.book;
  }

  #schedule(): void {
    if (this.#isStopped) return;
    this.#cancelTimer = this.#clock.after(
      this.book.rules.size === 0 ? IDLE_ROUND_MS : ROUND_MS,
      () => void this.evaluate().then(() => this.#schedule()),
    );
  }

  #serially<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#serial.then(task);
    this.#serial = result.catch(() => undefined); // the caller has the error
    return result;
  }

  /** A round, now; never throws. */
  evaluate(): Promise<void> {
    return this.#serially(async () => {
      if (!this.#isStopped) await this.#evaluator.round();
    });
  }

  rules(): RuleStatus[] {
    return [...this.book.rules.keys()].sort().flatMap((name) => this.rule(name) ?? []);
  }

  rule(name: string): RuleStatus | null {
    const stored = this.book.rules.get(name);
    if (stored === undefined) return null;
    const active = [...this.book.activeOf(name).values()];
    const firing = active.filter(({ state }) => state === 'firing').length;
    return { name, ...stored, pending: active.length - firing, firing, surplus: this.#evaluator.surplusOf(name) };
  }

  /**
   * The rule is durable when this returns. Alerts of a rule that watches something else now are resolved, and evaluated anew.
   *
   * @returns whether there was none of the name
   * @throws SluiceError ERR_ALERT_RULE_LIMIT, ERR_ALERT_BUSY, ERR_ALERT_LOG, ERR_STORE_*
   */
  async putRule(name: string, rule: AlertRule): Promise<boolean> {
    let isNew = false;
    await this.#change(() => {
      const before = this.book.rules.get(name);
      isNew = before === undefined;
      if (isNew && this.book.rules.size >= RULES_MAX)
        throw new SluiceError(
          'ERR_ALERT_RULE_LIMIT',
          `the lake has ${this.book.rules.size} rules of alerts, allowed ${RULES_MAX}: delete some`,
        );
      const isOther = before !== undefined && !watchesTheSame(before.rule, rule);
      return { rules: { [name]: rule }, alerts: isOther ? endOfRule(this.book, name, this.#log.nextUs(this.#clock.nowUs())) : [] };
    });
    void this.evaluate();
    return isNew;
  }

  /** Its alerts are resolved with it. @throws SluiceError ERR_ALERT_RULE_UNKNOWN, and as putRule */
  deleteRule(name: string): Promise<void> {
    return this.#change(() => {
      if (!this.book.rules.has(name))
        throw new SluiceError('ERR_ALERT_RULE_UNKNOWN', `no rule has the name ${JSON.stringify(name.slice(0, 80))} (GET /v1/alerts/rules)`);
      return { rules: { [name]: null }, alerts: endOfRule(this.book, name, this.#log.nextUs(this.#clock.nowUs())) };
    });
  }

  #change(makeDraft: () => Draft): Promise<void> {
    return this.#serially(async () => {
      await this.#log.refresh();
      for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++)
        if ((await this.#log.append(makeDraft(), this.#clock.nowUs())) !== null) return;
      throw new SluiceError('ERR_ALERT_BUSY', `${ATTEMPTS_MAX} attempts were lost to other hubs; try again`);
    });
  }

  /** Newest change first. */
  list(filter: AlertFilter): Alert[] {
    const fits = alertMatcher(filter);
    return [...this.book.alerts()].filter(fits).sort(compareAlerts);
  }

  /** All of them at one version. */
  capture(): AlertsCapture {
    return { version: this.book.version, rows: [...this.book.alerts()] };
  }

  get figures(): AlertFigures {
    const states = [...this.book.active.values()].flatMap((own) => [...own.values()].map(({ state }) => state));
    const firing = states.filter((state) => state === 'firing').length;
    const { transitions, history, forgotten, rules } = this.book;
    const common = { rules: rules.size, pending: states.length - firing, firing, transitions, history: history.length, forgotten };
    return { ...common, ...this.#evaluator.figures };
  }
}

/** Newest change first, then by id. */
export function compareAlerts(a: Pick<Alert, 'updatedUs' | 'id'>, b: Pick<Alert, 'updatedUs' | 'id'>): number {
  return b.updatedUs - a.updatedUs || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

export function alertMatcher(filter: Partial<AlertFilter>): (alert: Alert) => boolean {
  const { states, rules, severities, gateways, devices, metrics, fromUs = -Infinity, toUs = Infinity } = filter;
  // What an alert is not about does not exclude it: that of a whole gateway concerns each of its devices.
  const name = (names: readonly string[] | null | undefined): ((own: string | null) => boolean) => {
    if (names === null || names === undefined) return () => true;
    const matches = nameMatcher(names);
    return (own) => own === null || matches(own);
  };
  const [rule, gateway, device, metric] = [name(rules), name(gateways), name(devices), name(metrics)];
  return (alert) =>
    (states?.includes(alert.state) ?? true) &&
    (severities?.includes(alert.severity) ?? true) &&
    alert.sinceUs < toUs &&
    (alert.resolvedUs ?? Infinity) >= fromUs &&
    rule(alert.rule) &&
    gateway(alert.gateway) &&
    device(alert.device) &&
    metric(alert.metric);
}
