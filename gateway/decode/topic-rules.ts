/**
 * Topic rules: which topics carry readings, and which of their levels name device, metric and tags. The first rule that
 * matches wins.
 */
import { z } from 'zod';
import { TIME_UNITS } from './event-time.ts';
import { PRESETS, PRESET_NAMES } from './presets.ts';

export const PAYLOAD_FORMATS = ['auto', 'json', 'senml', 'influx', 'msgpack', 'number', 'text'] as const;
export type PayloadFormat = (typeof PAYLOAD_FORMATS)[number];

const LEVEL = /^(\+|#|\{device\}|\{metric\}|\{tag:[A-Za-z0-9_.-]{1,64}\}|[^{}+#]*)$/;

function matchFault(match: string): string | null {
  const levels = match.split('/');
  if (levels.length > 100) return `has ${levels.length} levels, at most 100 are allowed`;
  const names = levels.filter((level) => level.startsWith('{'));
  if (!names.includes('{device}') && names.length > 0) return 'names a metric or tag, but no {device} that they belong to';
  if (new Set(names).size !== names.length) return 'names a part twice';
  const bad = levels.find((level, index) => !LEVEL.test(level) || (level === '#' && index !== levels.length - 1));
  return bad === undefined
    ? null
    : `level ${JSON.stringify(bad)} is neither plain text, {device}, {metric}, {tag:NAME}, + nor a # at the end`;
}

const matchSchema = z
  .string()
  .min(1)
  .max(1024)
  .superRefine((match, context) => {
    const fault = matchFault(match);
    if (fault !== null) context.addIssue({ code: 'custom', message: `${JSON.stringify(match)} ${fault}` });
  });

const ruleFields = z.strictObject({
  match: matchSchema.optional().describe('Topic pattern; levels may be {device}, {metric}, {tag:NAME}, + or, at the end, #'),
  preset: z
    .enum(PRESET_NAMES)
    .nullable()
    .default(null)
    .describe('Topics and payloads of a known system; match is then its usual topics, and the other keys do not count'),
  format: z
    .enum(PAYLOAD_FORMATS)
    .default('auto')
    .describe('How payloads are written; auto recognises all but number and text, which bare values are'),
  timeUnit: z
    .enum(['auto', ...TIME_UNITS])
    .default('auto')
    .describe('Unit of numeric times; auto: recognised at the first plausible one of a topic, then kept'),
  timeKeys: z
    .array(z.string().min(1).max(256))
    .max(8)
    .default(['ts', 'timestamp', 'time'])
    .describe('Keys that hold the event time, the first present one counts'),
  deviceKey: z.string().min(1).max(256).default('device').describe('Key that names the device where the topic does not'),
  deviceClock: z
    .enum(['report', 'apply'])
    .default('report')
    .describe(
      "What becomes of the estimated error of a device's clock; apply: taken off its event times, which stay recoverable by the readings device_clock_ahead_us (only for devices that send at once)",
    ),
  priority: z
    .int()
    .min(0)
    .max(9)
    .default(0)
    .describe('What a full buffer thins and drops last: series of the highest number; the first rule that brings a series counts'),
  deviceTags: z
    .array(z.string().min(1).max(256))
    .max(8)
    .default(['device', 'host'])
    .describe('Line protocol: tags that name the device where the topic does not, the first present one counts'),
});

export const topicRuleSchema = ruleFields.transform((rule, context) => {
  const match = rule.match ?? (rule.preset === null ? undefined : PRESETS[rule.preset].match);
  if (match === undefined) context.addIssue({ code: 'custom', message: 'a rule needs match, or a preset', path: ['match'] });
  return { ...rule, match: match ?? '#' };
});
export type TopicRule = z.infer<typeof topicRuleSchema>;

export const DEFAULT_TOPIC_RULES: readonly TopicRule[] = ['devices/{device}/telemetry', 'devices/{device}/{metric}'].map((match) =>
  topicRuleSchema.parse({ match }),
);

export interface TopicMatch {
  readonly rule: TopicRule;
  /** The topic's levels from the pattern's first one that is not plain text. */
  readonly rest: readonly string[];
  readonly device: string | null;
  readonly metric: string | null;
  readonly tags: Readonly<Record<string, string>>;
}

export class TopicRules {
  readonly #rules: readonly { rule: TopicRule; levels: readonly string[] }[];

  constructor(rules: readonly TopicRule[]) {
    this.#rules = rules.map((rule) => ({ rule, levels: rule.match.split('/') }));
  }

  /** null: no rule matches. */
  match(topic: string): TopicMatch | null {
    const levels = topic.split('/');
    for (const { rule, levels: pattern } of this.#rules) {
      const found = matchLevels(pattern, levels);
      if (found !== null) return { rule, rest: levels.slice(pattern.findIndex((level) => /^[{+#]/.test(level))), ...found };
    }
    return null;
  }
}

function matchLevels(pattern: readonly string[], levels: readonly string[]): Omit<TopicMatch, 'rule' | 'rest'> | null {
  let device: string | null = null;
  let metric: string | null = null;
  const tags: Record<string, string> = {};
  for (let index = 0; index < pattern.length; index++) {
    const wanted = pattern[index];
    if (wanted === '#') return { device, metric, tags }; // also matches the parent level [MQTT-4.7.1-2]
    const level = levels[index];
    if (level === undefined) return null;
    if (wanted === '+') continue;
    if (!wanted.startsWith('{')) {
      if (wanted !== level) return null;
      continue;
    }
    if (level === '') return null; // an empty level names nothing
    if (wanted === '{device}') device = level;
    else if (wanted === '{metric}') metric = level;
    else tags[wanted.slice('{tag:'.length, -1)] = level;
  }
  return levels.length === pattern.length ? { device, metric, tags } : null;
}

const TELEMETRY_LEVEL = /^(telemetry|state|status|sensors?|data|attributes|measurements?|readings|events?|up|json)$/i;
/** Levels that look like an identity would make a pattern of their own each. */
const IDENTITY_LEVEL = /^[0-9a-fA-F:-]{6,}$|\d{3,}/;

/** A rule that would take this topic, as a person would write it: the last levels are device and metric. */
export function suggestMatch(topic: string): string {
  const levels = topic.split('/').slice(0, 16);
  const last = levels.length - 1;
  const fixed = (level: string): string => (IDENTITY_LEVEL.test(level) || !LEVEL.test(level) ? '+' : level);
  if (last === 0) return fixed(topic);
  const wholeMessage = TELEMETRY_LEVEL.test(levels[last]);
  return levels
    .map((level, index) => (index === last ? (wholeMessage ? level : '{metric}') : index === last - 1 ? '{device}' : fixed(level)))
    .join('/');
}

export interface UnmatchedTopics {
  /** Pattern that would take them. */
  readonly suggestedMatch: string;
  readonly example: string;
  messageCount: number;
}

const UNMATCHED_PATTERNS_MAX = 100;

/** Counts of topics that no rule takes, by suggested pattern; what does not fit any more is counted under `#`. */
export class UnmatchedTopicCounts {
  readonly #patterns = new Map<string, UnmatchedTopics>();
  readonly #cache = new Map<string, UnmatchedTopics>();

  count(topic: string): void {
    let entry = this.#cache.get(topic);
    if (entry === undefined) {
      entry = this.#entryOf(topic);
      if (this.#cache.size >= 1000) this.#cache.clear(); // only saves the work of suggestMatch
      if (topic.length <= 512) this.#cache.set(topic, entry);
    }
    entry.messageCount++;
  }

  #entryOf(topic: string): UnmatchedTopics {
    const suggested = suggestMatch(topic.slice(0, 512));
    const pattern = this.#patterns.has(suggested) || this.#patterns.size < UNMATCHED_PATTERNS_MAX ? suggested : '#';
    let entry = this.#patterns.get(pattern);
    if (entry === undefined) {
      entry = { suggestedMatch: pattern, example: topic.slice(0, 512), messageCount: 0 };
      this.#patterns.set(pattern, entry);
    }
    return entry;
  }

  /** Most frequent first. */
  list(): UnmatchedTopics[] {
    return [...this.#patterns.values()].sort((a, b) => b.messageCount - a.messageCount);
  }
}
