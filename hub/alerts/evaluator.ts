/**
 * Rounds of evaluation: what windows, silence and gateways say becomes entries of the alerts' log.
 *
 * Purpose: each rule sees each closed window of each of its groups once in effect. Windows are asked for when a watermark has
 * closed some, all rules of a window definition in one query, and again, together with the last few closed ones, while
 * readings come in, so that what is late changes its alert too.
 *
 * Layout: per window definition and gateway a frontier, the end of the last window that was evaluated. Behind it by
 * LATE_WINDOWS lies the base: what each group was there is kept (AlertBook.bases), and each round replays the windows from the
 * base to the newest closed one (state-machine.ts). Frontier and bases move in one entry with the transitions.
 *
 * Crash: an entry is there or not. Without it the windows are evaluated again from the frontier before; a frontier that has
 * moved without anything to tell is written now and then, so that little is evaluated again.
 *
 * Bounds: requests and windows a round (a gateway that comes back after days is caught up with, round by round), alerts of a
 * rule, groups that cross from the query's thread. It never runs two rounds at once, and holds nothing of the engine.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../shared/clock.ts';
import { errorMessage, isSluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { groupKeyText, type GroupKey } from '../../shared/window/partial-columns.ts';
import { slideUsOf, type WindowDefinition } from '../../shared/window/definition.ts';
import { parseFunction } from '../../shared/window/partial.ts';
import type { EngineStatus, QueryEngine } from '../engine-api.ts';
import type { GatewayRegistry } from '../ingest/gateways.ts';
import type { QueryService } from '../query/query-service.ts';
import { tagFilter } from '../query/tags.ts';
import type { Alert, Draft } from './alert.ts';
import type { AlertBook } from './alert-book.ts';
import type { AlertLog } from './alert-log.ts';
import { gatewayVerdicts } from './gateway-verdicts.ts';
import { changeUsOf, conditionText, definitionOf, durationMs, forUsOf, type AlertRule, type WindowRule } from './rule.ts';
import { evaluate, INACTIVE, replay, withMissing, type Horizon, type Phase, type Progress } from './state-machine.ts';
import type { RuleTask, VerdictAnswer, VerdictRow } from './verdicts.ts';

/** Late readings change alerts of so many of the newest closed windows. */
export const LATE_WINDOWS = 5;
/** Pending and firing ones of one rule. */
export const ACTIVE_MAX = 1_000;
/** Windows that one request goes on by. */
const CATCH_UP_WINDOWS_MAX = 60;
/** Gateways that stand at the same place share one. */
const REQUESTS_PER_ROUND_MAX = 8;
/** Windows that nothing new has closed are looked at again so often while readings come in. */
const LATE_CHECK_US = 10_000_000;
/** A frontier that moved without anything to tell is written so often. */
const FRONTIER_US = 300_000_000;
const SLICE_US = 3_000;
/** The alert that there are too many alerts of a rule is about no group. */
const SURPLUS_KEY = groupKeyText({ gateway: null, device: null, metric: null, tags: null });
/** By metric a window has no gateway. */
const ALL_GATEWAYS = '';

export interface EvaluatorParts {
  readonly log: AlertLog;
  readonly engine: Pick<QueryEngine, 'definitions' | 'status'>;
  readonly query: Pick<QueryService, 'verdicts'>;
  readonly gateways: Pick<GatewayRegistry, 'list'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Windows of one definition, of gateways that stand at the same place. */
interface WindowRequest {
  readonly definition: WindowDefinition;
  readonly rules: readonly NamedRule<WindowRule>[];
  /** ALL_GATEWAYS alone: windows by metric. */
  readonly gateways: readonly string[];
  readonly seenUs: number;
  /** null: known from the answer. */
  readonly closedUs: number | null;
}

interface NamedRule<R extends AlertRule = AlertRule> {
  readonly name: string;
  readonly rule: R;
}

export class Evaluator {
  readonly #parts: EvaluatorParts;
  readonly #startedUs: number;
  readonly #watermarks = new Map<string, number>();
  readonly #movedUs = new Map<string, number>();
  /** By window: what its last look was at. */
  readonly #looked = new Map<string, { readonly version: number; readonly rules: string; readonly atUs: number }>();
  /** By window by metric: the newest window that any gateway had closed then. */
  readonly #newestUs = new Map<string, number>();
  /** By window: windows of one request; fewer while answers are too large. */
  readonly #strides = new Map<string, number>();
  readonly #surplus = new Map<string, number>();
  #frontiersWrittenUs: number;
  #sliceStartUs = 0;
  #rounds = 0;
  #failures = 0;
  #durationMs = 0;

  constructor(parts: EvaluatorParts) {
    this.#parts = parts;
    this.#startedUs = parts.clock.nowUs();
    this.#frontiersWrittenUs = this.#startedUs;
  }

  get #book(): AlertBook {
    return this.#parts.log.book;
  }

  /** Alerts of the rule that there would be beyond ACTIVE_MAX. */
  surplusOf(rule: string): number {
    return this.#surplus.get(rule) ?? 0;
  }

  get figures(): { readonly rounds: number; readonly failures: number; readonly durationMs: number; readonly surplus: number } {
    const surplus = [...this.#surplus].reduce((sum, [rule, count]) => sum + (this.#book.rules.has(rule) ? count : 0), 0);
    return { rounds: this.#rounds, failures: this.#failures, durationMs: this.#durationMs, surplus };
  }

  /** One round. Never throws: what failed is tried again in the next. */
  async round(): Promise<void> {
    const { log, engine, clock, logger } = this.#parts;
    const startUs = clock.monotonicUs();
    try {
      await log.refresh();
      if (this.#book.rules.size > 0) {
        const status = await engine.status();
        this.#follow(status);
        await this.#evaluateRequests(this.#turnOf(this.#requests(status)));
        await this.#evaluateGateways();
        await this.#writeFrontiers();
      }
      this.#rounds++;
    } catch (error) {
      this.#failures++;
      this.#looked.clear();
      logger.warn({ error: errorMessage(error) }, 'a round of alerts failed; the next one follows');
    }
    this.#durationMs = (clock.monotonicUs() - startUs) / 1000;
  }

  #follow({ watermarks }: EngineStatus): void {
    const nowUs = this.#parts.clock.nowUs();
    for (const [gateway, us] of watermarks) {
      const before = this.#watermarks.get(gateway);
      if (before !== undefined && before !== us) this.#movedUs.set(gateway, nowUs);
      this.#watermarks.set(gateway, us);
    }
  }

  // --- windows -------------------------------------------------------------------------------------------------------

  /** Of too many each has its turn. */
  #turnOf(requests: readonly WindowRequest[]): readonly WindowRequest[] {
    if (requests.length <= REQUESTS_PER_ROUND_MAX) return requests;
    this.#looked.clear();
    const first = (this.#rounds * REQUESTS_PER_ROUND_MAX) % requests.length;
    return [...requests.slice(first), ...requests.slice(0, first)].slice(0, REQUESTS_PER_ROUND_MAX);
  }

  #requests(status: EngineStatus): WindowRequest[] {
    const nowUs = this.#parts.clock.monotonicUs();
    const byWindow = new Map<WindowDefinition, NamedRule<WindowRule>[]>();
    for (const [name, { rule }] of this.#book.rules) {
      const definition = definitionOf(rule, this.#parts.engine.definitions);
      if (rule.kind === 'gateway' || definition === null) continue;
      byWindow.set(definition, [...(byWindow.get(definition) ?? []), { name, rule }]);
    }
    return [...byWindow].flatMap(([definition, rules]) => {
      const looked = this.#looked.get(definition.name);
      const isEarly = rules.some(({ rule }) => rule.kind === 'threshold' && rule.early);
      const revision = rules.map(({ name }) => `${name} ${this.#book.rules.get(name)?.version}`).join();
      const isNews = looked === undefined || looked.rules !== revision;
      const isDue = looked === undefined || nowUs - looked.atUs >= LATE_CHECK_US;
      const isAgain = isNews || isEarly || (isDue && looked.version !== status.readingsVersion);
      if (isAgain) this.#looked.set(definition.name, { version: status.readingsVersion, rules: revision, atUs: nowUs });
      const places =
        definition.by === 'metric' ? this.#placesByMetric(definition, status, isAgain || isDue) : this.#places(definition, status);
      return places
        .filter(({ seenUs, closedUs }) => isAgain || closedUs === null || closedUs > seenUs)
        .map((place) => ({ definition, rules, ...place }));
    });
  }

  /** Where gateways stand, those at the same place together. */
  #places(definition: WindowDefinition, { watermarks }: EngineStatus): Pick<WindowRequest, 'gateways' | 'seenUs' | 'closedUs'>[] {
    const slideUs = slideUsOf(definition);
    const frontiers = this.#book.frontiers.get(definition.name);
    const places = new Map<string, { gateways: string[]; seenUs: number; closedUs: number }>();
    for (const [gateway, watermarkUs] of watermarks) {
      const newestUs = Math.floor(watermarkUs / slideUs) * slideUs;
      const seenUs = frontiers?.get(gateway) ?? newestUs - slideUs;
      const closedUs = Math.min(newestUs, seenUs + this.#strideOf(definition) * slideUs);
      // Another hub may be further on.
      if (closedUs < seenUs) continue;
      const key = `${seenUs} ${closedUs}`;
      const place = places.get(key);
      if (place === undefined) places.set(key, { gateways: [gateway], seenUs, closedUs });
      else place.gateways.push(gateway);
    }
    return [...places.values()];
  }

  /** Which gateways hold windows open is for the answer to say: it is asked when one of them has closed another window. */
  #placesByMetric(
    definition: WindowDefinition,
    { watermarks }: EngineStatus,
    isWanted: boolean,
  ): Pick<WindowRequest, 'gateways' | 'seenUs' | 'closedUs'>[] {
    if (watermarks.size === 0) return [];
    const slideUs = slideUsOf(definition);
    const newestUs = Math.floor(Math.max(...watermarks.values()) / slideUs) * slideUs;
    if (!isWanted && this.#newestUs.get(definition.name) === newestUs) return [];
    this.#newestUs.set(definition.name, newestUs);
    const seenUs = this.#book.frontiers.get(definition.name)?.get(ALL_GATEWAYS) ?? newestUs - slideUs;
    return [{ gateways: [ALL_GATEWAYS], seenUs, closedUs: null }];
  }

  #strideOf({ name }: WindowDefinition): number {
    return this.#strides.get(name) ?? CATCH_UP_WINDOWS_MAX;
  }

  /** Until another hub was first: it may have evaluated what is left, and these begin where the book stood before. */
  async #evaluateRequests(requests: readonly WindowRequest[]): Promise<void> {
    for (const request of requests) {
      if (await this.#evaluateWindows(request)) continue;
      this.#looked.clear();
      return;
    }
  }

  /** @returns false: another hub's entries have been taken in instead */
  async #evaluateWindows(request: WindowRequest): Promise<boolean> {
    const { definition, seenUs } = request;
    const slideUs = slideUsOf(definition);
    let answer: VerdictAnswer;
    try {
      answer = await this.#parts.query.verdicts(this.#queryOf(request));
    } catch (error) {
      const stride = this.#strideOf(definition);
      if (!isSluiceError(error, 'ERR_QUERY_TOO_LARGE') || stride === 1) throw error;
      this.#strides.set(definition.name, Math.ceil(stride / 2));
      return true;
    }
    // What cannot be read may be what would clear an alert, or the sign of life of a device.
    if (!answer.whole) {
      this.#looked.delete(definition.name);
      return true;
    }
    const closedUs = Math.min(answer.closedUs, seenUs + this.#strideOf(definition) * slideUs);
    if (closedUs < seenUs) return true;
    const lateUs = LATE_WINDOWS * slideUs;
    const horizon: Horizon = { baseUs: seenUs - lateUs, seenUs, closedUs, nextBaseUs: closedUs - lateUs };
    const changes = new Changes(this.#book, this.#parts.log.nextUs(this.#parts.clock.nowUs()));
    for (const { name, rows, surplus } of answer.rules) {
      const named = request.rules.find((candidate) => candidate.name === name);
      if (named !== undefined) await this.#evaluateRule(named, rows, surplus, request, horizon, changes);
    }
    const frontier = Object.fromEntries(request.gateways.map((gateway) => [gateway, closedUs]));
    if (!changes.isEmpty) return this.#append({ ...changes.draft, frontiers: { [definition.name]: frontier } });
    for (const gateway of request.gateways) this.#book.moveFrontier(definition.name, gateway, closedUs);
    return true;
  }

  #queryOf({ definition, rules, gateways, seenUs, closedUs }: WindowRequest) {
    const slideUs = slideUsOf(definition);
    const sizeUs = definition.sizeMs * 1000;
    const baseUs = seenUs - LATE_WINDOWS * slideUs;
    const silenceUs = Math.max(0, ...rules.map(({ rule }) => (rule.kind === 'absence' ? durationMs(rule.for) * 1000 : 0)));
    const changeUs = Math.max(...rules.map(({ rule }) => changeUsOf(rule)));
    const isEarly = rules.some(({ rule }) => rule.kind === 'threshold' && rule.early);
    const hasAbsence = silenceUs > 0;
    const nowUs = this.#parts.clock.nowUs();
    const isMetric = gateways[0] === ALL_GATEWAYS;
    const endUs = closedUs ?? seenUs + this.#strideOf(definition) * slideUs;
    return {
      windows: {
        window: definition.name,
        // The first window behind the base, and what it is compared with; one that was heard before a silence began.
        fromUs: Math.max(0, Math.min(baseUs - changeUs, hasAbsence ? seenUs - silenceUs - slideUs : Infinity) - sizeUs + slideUs),
        toUs: isEarly || hasAbsence ? Math.max(nowUs + 1, endUs) : endUs - sizeUs + 1,
        gateways: isMetric ? null : gateways,
        devices: union(rules, 'device'),
        metrics: union(rules, 'metric'),
        // What the partials have to hold: percentiles want their buckets.
        functions: rules.flatMap(({ rule }) => (rule.kind === 'threshold' ? [parseFunction(rule.function)] : [])),
        limit: 1,
        after: null,
      },
      closedUs,
      baseUs,
      rules: rules.map((named) => this.#taskOf(named, gateways)),
    };
  }

  #taskOf({ name, rule }: NamedRule<WindowRule>, gateways: readonly string[]): RuleTask {
    const here = new Set(gateways);
    const active = this.#book.activeOf(name);
    const known = [...new Set([...active.keys(), ...(this.#book.bases.get(name)?.keys() ?? [])])].filter((key) => isOf(key, here));
    return {
      name,
      gateways: rule.gateway ?? null,
      devices: rule.device ?? null,
      metrics: rule.metric ?? null,
      tags: tagFilter(rule.tag),
      condition:
        rule.kind === 'absence'
          ? { kind: 'absence', by: rule.by, forUs: durationMs(rule.for) * 1000 }
          : { kind: 'threshold', function: parseFunction(rule.function), bounds: rule, early: rule.early, changeUs: changeUsOf(rule) },
      known,
      newMax: Math.max(0, ACTIVE_MAX - active.size),
    };
  }

  async #evaluateRule(
    named: NamedRule<WindowRule>,
    rows: readonly VerdictRow[],
    surplus: number,
    request: WindowRequest,
    horizon: Horizon,
    changes: Changes,
  ): Promise<void> {
    const { name, rule } = named;
    const byKey = new Map<string, VerdictRow[]>();
    for (const row of rows) {
      const own = byKey.get(row.key);
      if (own === undefined) byKey.set(row.key, [row]);
      else own.push(row);
    }
    const here = new Set(request.gateways);
    const bases = this.#book.bases.get(name);
    const active = this.#book.activeOf(name);
    for (const key of [...active.keys(), ...(bases?.keys() ?? [])]) if (isOf(key, here) && !byKey.has(key)) byKey.set(key, []);
    for (const [key, own] of byKey) {
      await this.#breathe();
      if (rule.kind === 'absence') this.#evaluateSilence({ name, rule }, key, own[0], request, horizon, changes);
      else this.#evaluateGroup({ name, rule }, key, own, request, horizon, changes);
    }
    this.#countSurplus(named, surplus, request, horizon, changes);
  }

  #evaluateGroup(
    { name, rule }: NamedRule<Extract<WindowRule, { kind: 'threshold' }>>,
    key: string,
    rows: readonly VerdictRow[],
    { definition }: WindowRequest,
    horizon: Horizon,
    changes: Changes,
  ): void {
    const alert = this.#book.activeOf(name).get(key);
    const base = this.#book.bases.get(name)?.get(key) ?? INACTIVE;
    const slideUs = slideUsOf(definition);
    const span = { fromUs: horizon.baseUs, toUs: horizon.closedUs, slideUs, sizeUs: definition.sizeMs * 1000 };
    const all = rule.missing === 'clear' ? withMissing(rows, key, span) : rows;
    const known = alert === undefined ? null : { ...progressOf(alert), endUs: alert.windowEndUs ?? 0 };
    const { transitions, nextBase } = evaluate(base, known, all, horizon, forUsOf(rule), (endUs) => changes.wasTold(name, key, endUs));
    for (const { to, row, cause } of transitions)
      changes.move({ name, rule }, key, to, { ...row, window: definition.name, cause, atUs: row.endUs });
    changes.rebase(name, key, nextBase);
  }

  #evaluateSilence(
    { name, rule }: NamedRule<Extract<WindowRule, { kind: 'absence' }>>,
    key: string,
    row: VerdictRow | undefined,
    { definition }: WindowRequest,
    { closedUs }: Horizon,
    changes: Changes,
  ): void {
    const alert = this.#book.activeOf(name).get(key);
    const reason = { window: definition.name, cause: 'silence' as const, atUs: closedUs, startUs: row?.startUs ?? 0, endUs: closedUs };
    if (alert === undefined) {
      if (row?.verdict === 'fire')
        changes.move({ name, rule }, key, { phase: 'firing', sinceUs: row.startUs }, { ...reason, value: row.value });
    } else if (row?.verdict === 'clear' || closedUs - alert.sinceUs >= durationMs(rule.forget_after) * 1000) {
      changes.move({ name, rule }, key, INACTIVE, { ...reason, startUs: row?.startUs ?? alert.sinceUs, value: null });
    }
  }

  /** One alert stands for all that are too many, until there is room again for a while. */
  #countSurplus(named: NamedRule, surplus: number, { definition }: WindowRequest, horizon: Horizon, changes: Changes): void {
    const { name } = named;
    const active = this.#book.activeOf(name);
    const isOver = surplus === 0 && active.size < 0.9 * ACTIVE_MAX;
    if (surplus > 0) this.#surplus.set(name, surplus);
    else if (isOver) this.#surplus.delete(name);
    if (active.has(SURPLUS_KEY) ? !isOver : surplus === 0) return;
    const to: Progress = surplus > 0 ? { phase: 'firing', sinceUs: horizon.closedUs } : INACTIVE;
    const reason = { window: definition.name, startUs: horizon.seenUs, endUs: horizon.closedUs, atUs: horizon.closedUs };
    changes.move(named, SURPLUS_KEY, to, { ...reason, value: surplus, cause: 'surplus' });
  }

  /** The thread owns sockets: they get a turn. Nothing else changes the book meanwhile, rounds and rules take turns. */
  async #breathe(): Promise<void> {
    const { clock } = this.#parts;
    if (clock.monotonicUs() - this.#sliceStartUs < SLICE_US) return;
    await nextTurn();
    this.#sliceStartUs = clock.monotonicUs();
  }

  // --- gateways ------------------------------------------------------------------------------------------------------

  async #evaluateGateways(): Promise<void> {
    const nowUs = this.#parts.clock.nowUs();
    const changes = new Changes(this.#book, this.#parts.log.nextUs(nowUs));
    const fleet = {
      gateways: this.#parts.gateways.list(nowUs),
      watermarks: this.#watermarks,
      movedUs: this.#movedUs,
      startedUs: this.#startedUs,
      nowUs,
    };
    for (const [name, { rule }] of this.#book.rules) {
      if (rule.kind !== 'gateway') continue;
      let room = ACTIVE_MAX - this.#book.activeOf(name).size;
      for (const row of gatewayVerdicts(rule, fleet)) {
        const alert = this.#book.activeOf(name).get(row.key);
        if (alert === undefined && (row.verdict !== 'fire' || --room < 0)) continue;
        const start = alert === undefined ? INACTIVE : progressOf(alert);
        const { changes: steps } = replay(start, [row], forUsOf(rule));
        for (const { to } of steps) changes.move({ name, rule }, row.key, to, { ...row, window: null, cause: 'gateway', atUs: nowUs });
      }
      this.#surplus.set(name, Math.max(0, -room));
    }
    if (!changes.isEmpty) await this.#append(changes.draft);
  }

  // --- entries -------------------------------------------------------------------------------------------------------

  /** @returns false: another hub was first, and its entries have been taken in */
  async #append(draft: Draft): Promise<boolean> {
    return (await this.#parts.log.append(draft, this.#parts.clock.nowUs())) !== null;
  }

  async #writeFrontiers(): Promise<void> {
    const nowUs = this.#parts.clock.nowUs();
    if (nowUs - this.#frontiersWrittenUs < FRONTIER_US) return;
    this.#frontiersWrittenUs = nowUs;
    const frontiers = Object.fromEntries([...this.#book.frontiers].map(([window, own]) => [window, Object.fromEntries(own)]));
    if (Object.keys(frontiers).length > 0) await this.#append({ frontiers });
  }
}

interface Reason extends Pick<VerdictRow, 'value' | 'startUs' | 'endUs'> {
  readonly window: string | null;
  readonly cause: Alert['cause'];
  readonly atUs: number;
}

/** What becomes one entry. */
class Changes {
  readonly #book: AlertBook;
  readonly #committedUs: number;
  readonly #alerts: Alert[] = [];
  readonly #current = new Map<string, Alert | null>();
  /** Made when it is first asked for. */
  #resolved: Set<string> | null = null;
  /** By rule, which may have any name. */
  readonly #bases = new Map<string, Record<string, readonly ['pending' | 'firing', number] | null>>();

  constructor(book: AlertBook, committedUs: number) {
    this.#book = book;
    this.#committedUs = committedUs;
  }

  /** Whether an alert of the group that fired by the window that ends then has been resolved. */
  wasTold(rule: string, key: string, endUs: number): boolean {
    this.#resolved ??= new Set(this.#book.history.map((alert) => `${alert.rule}\u0000${alert.firedUs}\u0000${groupKeyText(alert)}`));
    return this.#resolved.has(`${rule}\u0000${endUs}\u0000${key}`);
  }

  get isEmpty(): boolean {
    return this.#alerts.length === 0 && this.#bases.size === 0;
  }

  get draft(): Draft {
    return { alerts: this.#alerts, bases: Object.fromEntries(this.#bases) };
  }

  move({ name, rule }: NamedRule, key: string, to: Progress, reason: Reason): void {
    const place = `${name}\u0000${key}`;
    const now = this.#current.get(place) ?? (this.#current.has(place) ? null : (this.#book.activeOf(name).get(key) ?? null));
    const version = this.#book.version + 1;
    const common = {
      value: reason.value,
      cause: reason.cause,
      window: reason.window,
      windowStartUs: reason.window === null ? null : reason.startUs,
      windowEndUs: reason.window === null ? null : reason.endUs,
      updatedUs: this.#committedUs,
      version,
    };
    let alert: Alert;
    // Who was told that it fires is told that it ended, also where late readings make it pending again: that is another alert.
    if (to.phase === 'pending' && now?.state === 'firing') {
      this.move({ name, rule }, key, INACTIVE, reason);
      this.move({ name, rule }, key, to, reason);
      return;
    }
    if (to.phase === 'inactive') {
      if (now === null) return;
      alert = { ...now, ...common, state: 'resolved', resolvedUs: reason.atUs };
    } else {
      const { severity, summary, labels } = rule;
      const condition = conditionText(rule);
      const begun = now ?? {
        id: `${version}-${this.#alerts.length}`,
        rule: name,
        ...groupOf(key),
        sinceUs: to.sinceUs,
        firedUs: null,
        resolvedUs: null,
      };
      alert = {
        ...begun,
        severity,
        summary,
        condition,
        labels,
        ...common,
        state: to.phase,
        firedUs: to.phase === 'firing' ? reason.atUs : null,
      };
    }
    this.#alerts.push(alert);
    this.#current.set(place, alert.state === 'resolved' ? null : alert);
  }

  rebase(rule: string, key: string, next: Progress): void {
    const before = this.#book.bases.get(rule)?.get(key) ?? INACTIVE;
    if (before.phase === next.phase && (next.phase === 'inactive' || before.sinceUs === next.sinceUs)) return;
    const own = this.#bases.get(rule) ?? {};
    this.#bases.set(rule, own);
    own[key] = next.phase === 'inactive' ? null : [next.phase, next.sinceUs];
  }
}

/** All active alerts of a rule that is gone, or watches something else now. */
export function endOfRule(book: AlertBook, rule: string, nowUs: number): Alert[] {
  return [...book.activeOf(rule).values()].map((alert): Alert => ({
    ...alert,
    state: 'resolved',
    cause: 'rule',
    resolvedUs: nowUs,
    updatedUs: nowUs,
    version: book.version + 1,
  }));
}

function progressOf({ state, sinceUs }: Alert): Progress & { readonly phase: Phase } {
  return { phase: state === 'firing' ? 'firing' : 'pending', sinceUs };
}

export function groupOf(key: string): GroupKey {
  const [gateway, device, metric, tags] = key.split('\u0000').map((text) => (text === '\u0001' ? null : text));
  return { gateway, device, metric, tags };
}

/** @param gateways of the request; ALL_GATEWAYS: of windows by metric */
function isOf(key: string, gateways: ReadonlySet<string>): boolean {
  return key !== SURPLUS_KEY && gateways.has(groupOf(key).gateway ?? ALL_GATEWAYS);
}

/** What all rules together look at; null: everything. */
function union(rules: readonly NamedRule<WindowRule>[], key: 'device' | 'metric'): readonly string[] | null {
  const lists = rules.map(({ rule }) => rule[key]);
  return lists.includes(undefined) ? null : [...new Set(lists.flatMap((names) => names ?? []))];
}
