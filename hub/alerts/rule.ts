/**
 * Rules of alerts as data: what is watched, and when it fires.
 *
 * Three kinds. `threshold`: a function of a window's readings is beyond a bound. `absence`: a device, series or gateway's
 * metric that was there has sent nothing for so long. `gateway`: the state of a gateway itself. A rule is JSON; what is
 * stored is what a GET answers and what a PUT takes.
 */
import { z } from 'zod';
import { NAME_BYTES_MAX } from '../../shared/reading.ts';
import { SluiceError } from '../../shared/errors.ts';
import { parseFunction } from '../../shared/window/partial.ts';
import { formatDurationMs, slideUsOf, type WindowDefinition } from '../../shared/window/definition.ts';

export const RULES_MAX = 200;
export const RULE_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const NAMES_MAX = 100;
const LABELS_MAX = 16;
const FOR_MS_MAX = 7 * 86_400_000;
/** Windows that a rule of absence, or of change, looks back over: each round reads them all. */
const ABSENCE_WINDOWS_MAX = 40;
const CHANGE_WINDOWS_MAX = 60;
const DURATION_CHARACTERS_MAX = 20;
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

export const SEVERITIES = ['info', 'warning', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** `30s`, `1h30m`, `0s`; null: not a duration. */
function parseRuleDuration(text: string): number | null {
  if (text.length > DURATION_CHARACTERS_MAX || !/^(?:[0-9]+(?:ms|[smhdw]))+$/.test(text)) return null;
  let ms = 0;
  for (const [, count, unit] of text.matchAll(/([0-9]+)(ms|[smhdw])/g)) ms += Number(count) * UNIT_MS[unit];
  return ms;
}

function durationSchema(msMin: 0 | 1) {
  const isRight = (text: string): boolean => {
    const ms = parseRuleDuration(text);
    return ms !== null && ms >= msMin && ms <= FOR_MS_MAX;
  };
  const range = `from ${msMin === 0 ? '0s' : '1ms'} to 7d, like 30s, 5m or 1h30m`;
  return z.string().refine(isRight, { error: ({ input }) => `${JSON.stringify(input)?.slice(0, 80)} is not a duration ${range}` });
}

const duration = durationSchema(1);
/** Of a condition that may fire at once. */
const hold = durationSchema(0);

const name = z
  .string()
  .min(1)
  .refine((text) => Buffer.byteLength(text) <= NAME_BYTES_MAX, `a name has at most ${NAME_BYTES_MAX} bytes`);
const names = z.array(name).min(1).max(NAMES_MAX);
const labels = z
  .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, 'a label is a letter or _, then letters, digits or _'), z.string().max(256))
  .refine((given) => Object.keys(given).length <= LABELS_MAX, `at most ${LABELS_MAX} labels are allowed`);

const described = {
  summary: z.string().max(500).default('').describe('For people: what is wrong, and what to do'),
  severity: z.enum(SEVERITIES).default('warning'),
  labels: labels.default({}).describe('Carried along with each of its alerts'),
};

const selected = {
  gateway: names.optional().describe('Only these gateways; * stands for any characters'),
  device: names.optional().describe('Only these devices; * stands for any characters'),
  metric: names.optional().describe('Only these metrics; * stands for any characters'),
  tag: z
    .array(
      z
        .string()
        .max(2 * NAME_BYTES_MAX)
        .regex(/^[^:]+:./s, 'a tag is key:value'),
    )
    .min(1)
    .max(NAMES_MAX)
    .optional()
    .describe('Only series with these tags, key:value; several values of one key are alternatives'),
};

const finite = z.number();
const thresholdSchema = z.strictObject({
  kind: z.literal('threshold'),
  ...described,
  window: z.string().max(32).describe('Name of a window (GET /v1/windows)'),
  function: z.string().max(16).default('mean').describe('Of the readings of a window; as in /v1/aggregates'),
  ...selected,
  above: finite.optional().describe('Fires where the value is greater'),
  below: finite.optional().describe('Fires where the value is less; with above: outside of both'),
  clear_above: finite.optional().describe('Of below: once it fires, only a value from here up clears it. Default: below'),
  clear_below: finite.optional().describe('Of above: once it fires, only a value from here down clears it. Default: above'),
  for: hold.optional().describe('Event time that the condition has to hold; default, and 0s: one window'),
  change_over: duration
    .optional()
    .describe('Judged is the value minus that of the window so long before; without such a window nothing is. A multiple of its slide'),
  missing: z
    .enum(['keep', 'clear'])
    .default('keep')
    .describe('What a closed window without readings means. keep: nothing, what was stays; clear: the condition does not hold'),
  early: z.boolean().default(false).describe('Fires on an open window already; only a closed one clears'),
});

const absenceSchema = z.strictObject({
  kind: z.literal('absence'),
  ...described,
  ...selected,
  by: z
    .enum(['gateway', 'device', 'series'])
    .default('device')
    .describe('What has to be heard: any device of a gateway, any series of a device, or each series'),
  window: z.string().max(32).optional().describe('Windows by series that are looked at; default: the longest that fits `for`'),
  for: duration.describe('Nothing came for so long, while its gateway has delivered all that it had'),
  forget_after: duration.default('7d').describe('Then the alert ends without anything having come'),
});

export const GATEWAY_CONDITIONS = ['disconnected', 'lag', 'backlog', 'clock'] as const;
const gatewaySchema = z.strictObject({
  kind: z.literal('gateway'),
  ...described,
  gateway: selected.gateway,
  condition: z
    .enum(GATEWAY_CONDITIONS)
    .describe(
      'disconnected: no hub hears it; lag: age of its oldest reading that is not in the lake, s; backlog: bytes that it holds; clock: not synchronised, or off by more than `above` s',
    ),
  above: z.number().min(0).optional().describe('For lag and backlog; of clock the allowed offset in s'),
  for: hold.default('1m').describe('Time that the condition has to hold'),
});

export const alertRuleSchema = z.discriminatedUnion('kind', [thresholdSchema, absenceSchema, gatewaySchema]);
export type AlertRule = z.output<typeof alertRuleSchema>;
export type ThresholdRule = z.output<typeof thresholdSchema>;
export type AbsenceRule = z.output<typeof absenceSchema>;
export type GatewayRule = z.output<typeof gatewaySchema>;
export type WindowRule = ThresholdRule | AbsenceRule;

export interface RuleProblem {
  readonly member: string;
  readonly detail: string;
}

/** What a schema cannot say; empty: the rule can be evaluated here. */
export function ruleProblems(rule: AlertRule, definitions: readonly WindowDefinition[]): RuleProblem[] {
  if (rule.kind === 'threshold') return thresholdProblems(rule, definitions);
  if (rule.kind === 'absence') return absenceProblems(rule, definitions);
  const needsBound = rule.condition === 'lag' || rule.condition === 'backlog';
  return needsBound && rule.above === undefined ? [{ member: 'above', detail: `the condition ${rule.condition} needs it` }] : [];
}

function thresholdProblems(rule: ThresholdRule, definitions: readonly WindowDefinition[]): RuleProblem[] {
  const problems: RuleProblem[] = [];
  const { above, below, clear_above: clearAbove, clear_below: clearBelow } = rule;
  if (above === undefined && below === undefined) problems.push({ member: 'above', detail: 'above or below, or both, has to be there' });
  if (above !== undefined && below !== undefined && below > above)
    problems.push({ member: 'below', detail: `${below} is greater than above, ${above}: every value would fire` });
  if (clearBelow !== undefined && (above === undefined || clearBelow > above))
    problems.push({ member: 'clear_below', detail: `goes with above and is not greater than it (${above ?? 'there is none'})` });
  if (clearAbove !== undefined && (below === undefined || clearAbove < below))
    problems.push({ member: 'clear_above', detail: `goes with below and is not less than it (${below ?? 'there is none'})` });
  if ((clearAbove ?? below ?? -Infinity) > (clearBelow ?? above ?? Infinity))
    problems.push({ member: 'clear_above', detail: 'no value would clear: the bounds to clear cross each other' });
  try {
    parseFunction(rule.function);
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    problems.push({ member: 'function', detail: error.message });
  }
  const definition = definitions.find((candidate) => candidate.name === rule.window);
  if (definition === undefined) problems.push(unknownWindow(rule.window, definitions));
  else if (definition.by === 'metric')
    for (const key of ['gateway', 'device', 'tag'] as const)
      if (rule[key] !== undefined) problems.push({ member: key, detail: `the window ${rule.window} is by metric, over all of them` });
  if (definition !== undefined && rule.change_over !== undefined) problems.push(...changeProblems(rule.change_over, definition));
  return problems;
}

function changeProblems(changeOver: string, definition: WindowDefinition): RuleProblem[] {
  const slideMs = slideUsOf(definition) / 1000;
  const changeMs = durationMs(changeOver);
  if (changeMs % slideMs === 0 && changeMs <= slideMs * CHANGE_WINDOWS_MAX) return [];
  const [least, most] = [slideMs, slideMs * CHANGE_WINDOWS_MAX].map(formatDurationMs);
  return [{ member: 'change_over', detail: `${changeOver} is no multiple of ${least} up to ${most}, as windows ${definition.name} need` }];
}

function unknownWindow(window: string, definitions: readonly WindowDefinition[]): RuleProblem {
  return { member: 'window', detail: `no window ${JSON.stringify(window)}, there are ${definitions.map((one) => one.name).join(', ')}` };
}

function absenceProblems(rule: AbsenceRule, definitions: readonly WindowDefinition[]): RuleProblem[] {
  if (rule.window !== undefined && !definitions.some((candidate) => candidate.name === rule.window))
    return [unknownWindow(rule.window, definitions)];
  if (absenceDefinition(rule, definitions) !== null) return [];
  const usable = absenceCandidates(rule, definitions).map(
    (one) => `${one.name} (${formatDurationMs(one.sizeMs)} to ${formatDurationMs(one.sizeMs * ABSENCE_WINDOWS_MAX)})`,
  );
  const detail = usable.length === 0 ? 'there is no tumbling window by series' : `no window fits ${rule.for}: ${usable.join(', ')}`;
  return [{ member: 'for', detail }];
}

function absenceCandidates(rule: AbsenceRule, definitions: readonly WindowDefinition[]): readonly WindowDefinition[] {
  return definitions.filter(
    ({ name: own, by, slideMs, persisted }) =>
      by === 'series' && slideMs === undefined && (rule.window === undefined ? persisted : own === rule.window),
  );
}

/** The windows that a rule of absence looks at; null: none fits. */
export function absenceDefinition(rule: AbsenceRule, definitions: readonly WindowDefinition[]): WindowDefinition | null {
  const forMs = durationMs(rule.for);
  const fitting = absenceCandidates(rule, definitions).filter(({ sizeMs }) => sizeMs <= forMs && forMs <= sizeMs * ABSENCE_WINDOWS_MAX);
  // Short windows see the end of silence sooner, and there are more of them to read: of those that fit the longest whose
  // length is not much beside `for`, else the shortest.
  const precise = fitting.filter(({ sizeMs }) => sizeMs * 5 <= forMs);
  const [best] = precise.length > 0 ? [...precise].sort((a, b) => b.sizeMs - a.sizeMs) : [...fitting].sort((a, b) => a.sizeMs - b.sizeMs);
  return best ?? null;
}

/** The definition that the rule's windows are of; null: it has none, or this hub does not know it. */
export function definitionOf(rule: AlertRule, definitions: readonly WindowDefinition[]): WindowDefinition | null {
  if (rule.kind === 'gateway') return null;
  if (rule.kind === 'absence') return absenceDefinition(rule, definitions);
  return definitions.find((candidate) => candidate.name === rule.window) ?? null;
}

export function durationMs(text: string): number {
  const ms = parseRuleDuration(text);
  if (ms === null) throw new Error(`${text} was checked to be a duration`);
  return ms;
}

/** Event time that the condition has to hold, µs; 0: a single window is enough. */
export function forUsOf(rule: AlertRule): number {
  if (rule.kind === 'absence' || rule.for === undefined) return 0;
  return durationMs(rule.for) * 1000;
}

/** How far before a window the one lies that its value is compared with, µs; 0: with none. */
export function changeUsOf(rule: AlertRule): number {
  return rule.kind === 'threshold' && rule.change_over !== undefined ? durationMs(rule.change_over) * 1000 : 0;
}

/** Whether alerts of the one are alerts of the other: all but words and labels is the same. */
export function watchesTheSame(a: AlertRule, b: AlertRule): boolean {
  const essence = (rule: AlertRule): string =>
    JSON.stringify(
      Object.entries(rule)
        .filter(([key]) => key !== 'summary' && key !== 'labels' && key !== 'severity')
        .sort(([one], [other]) => (one < other ? -1 : 1)),
    );
  return essence(a) === essence(b);
}

/** For people: `mean of 1m above 80 for 5m`. */
export function conditionText(rule: AlertRule): string {
  const held = rule.for === undefined || durationMs(rule.for) === 0 ? '' : ` for ${rule.for}`;
  if (rule.kind === 'absence') return `nothing heard${held}`;
  if (rule.kind === 'gateway') {
    const unit = rule.condition === 'backlog' ? 'bytes' : 's';
    return `${rule.condition}${rule.above === undefined ? '' : ` above ${rule.above} ${unit}`}${held}`;
  }
  const bounds = [rule.above === undefined ? [] : [`above ${rule.above}`], rule.below === undefined ? [] : [`below ${rule.below}`]];
  const change = rule.change_over === undefined ? '' : ` changed over ${rule.change_over}`;
  return `${rule.function} of ${rule.window}${change} ${bounds.flat().join(' or ')}${held}`;
}
