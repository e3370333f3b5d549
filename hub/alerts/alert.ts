/** An alert, and the entries of the log that alerts and rules are kept in. Plain JSON. */
import { z } from 'zod';
import { alertRuleSchema, SEVERITIES, type AlertRule } from './rule.ts';

export const ALERT_STATES = ['pending', 'firing', 'resolved'] as const;
export type AlertState = (typeof ALERT_STATES)[number];

/**
 * Why it became what it is. window: a window was closed; late: readings that came late changed windows that had been
 * evaluated; early: by a window that is still open; silence, gateway: by what was not heard, or a gateway's state; rule: its
 * rule was changed or deleted; surplus: more alerts of one rule than are kept.
 */
export const ALERT_CAUSES = ['window', 'late', 'early', 'silence', 'gateway', 'rule', 'surplus'] as const;

const nullableText = z.string().nullable();
const nullableUs = z.number().nullable();

export const alertSchema = z.object({
  /** Of the log's entry that it began in, and its place there. */
  id: z.string(),
  rule: z.string(),
  severity: z.enum(SEVERITIES),
  summary: z.string(),
  /** What its rule says, in words: `mean of 1m above 80 for 5m`. */
  condition: z.string().default(''),
  labels: z.record(z.string(), z.string()),
  gateway: nullableText,
  device: nullableText,
  metric: nullableText,
  /** Canonical JSON. */
  tags: nullableText,
  state: z.enum(ALERT_STATES),
  cause: z.enum(ALERT_CAUSES),
  /** By the last window that changed its state. */
  value: z.number().nullable(),
  window: nullableText,
  windowStartUs: nullableUs,
  windowEndUs: nullableUs,
  /** Since when the condition has held; event time of windows. */
  sinceUs: z.number(),
  /** End of the window that it fired by; null: it has not. */
  firedUs: nullableUs,
  resolvedUs: nullableUs,
  /** Hub wall clock of the entry that changed it last. */
  updatedUs: z.number(),
  version: z.int(),
});
export type Alert = z.output<typeof alertSchema>;

const phaseSchema = z.enum(['pending', 'firing']);
const progressSchema = z.tuple([phaseSchema, z.number()]);

const bases = z.record(z.string(), z.record(z.string(), progressSchema.nullable()));
const frontiers = z.record(z.string(), z.record(z.string(), z.number()));

export const entrySchema = z.object({
  format: z.literal(1),
  version: z.int().min(1),
  /** Hub wall clock; never behind the entry before. */
  committedUs: z.number(),
  hub: z.string(),
  /** null: deleted. */
  rules: z.record(z.string(), alertRuleSchema.nullable()).default({}),
  /** Window name → gateway ('' for windows by metric) → end of the last window that was evaluated, µs. */
  frontiers: frontiers.default({}),
  /** Rule → group → what it was at its base; null: inactive. */
  bases: bases.default({}),
  /** Each as it is after one transition, in their order. */
  alerts: z.array(alertSchema).default([]),
});
export type Entry = z.output<typeof entrySchema>;

/** What a hub wants to become an entry. */
export interface Draft {
  readonly rules?: Readonly<Record<string, AlertRule | null>>;
  readonly frontiers?: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly bases?: Readonly<Record<string, Readonly<Record<string, readonly ['pending' | 'firing', number] | null>>>>;
  readonly alerts?: readonly Alert[];
}

export const snapshotSchema = z.object({
  format: z.literal(1),
  version: z.int().min(1),
  committedUs: z.number(),
  rules: z.record(z.string(), z.object({ rule: alertRuleSchema, version: z.int(), updatedUs: z.number() })),
  frontiers,
  bases,
  active: z.array(alertSchema),
  /** Resolved, oldest first. */
  history: z.array(alertSchema),
  forgotten: z.int(),
});
export type Snapshot = z.output<typeof snapshotSchema>;
