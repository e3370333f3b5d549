/**
 * What a window is: a span of event time, tumbling or hopping, and the keys that readings are grouped by inside it.
 *
 * Windows are half-open, [start, start + size), and aligned to the Unix epoch: a tumbling window starts at every multiple of
 * its size, a hopping one at every multiple of its slide, so that a reading is in size / slide of them.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { HISTOGRAM_SCALE } from './histogram.ts';

export type WindowBy = 'series' | 'metric';

/** The group keys of each `by`, in the order of the columns of `aggregates`; the other key columns are null. */
export const GROUP_KEYS: Readonly<Record<WindowBy, readonly string[]>> = {
  series: ['gateway', 'device', 'metric', 'tags'],
  metric: ['metric'],
};

export interface WindowDefinition {
  /** How queries and configuration call it; not part of its identity. */
  readonly name: string;
  readonly sizeMs: number;
  /** Of a hopping window: time between two starts, a divisor of the size and less than it. Absent: tumbling. */
  readonly slideMs?: number;
  readonly by: WindowBy;
  /** false: live only (overlay and SSE); older ranges are computed from `readings`. */
  readonly persisted: boolean;
}

/** Raised when a partial of the same readings would come out different: rows of the old version are not merged with new ones. */
export const FUNCTIONS_VERSION = 1;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `250ms`, `10s`, `1m`, `1h`, `1d` in milliseconds; null for anything else, zero and inexact sizes included. */
export function parseDurationMs(text: string): number | null {
  const match = /^([1-9][0-9]{0,14})(ms|s|m|h|d)$/.exec(text);
  if (match === null) return null;
  const ms = Number(match[1]) * UNIT_MS[match[2]];
  return Number.isSafeInteger(ms) ? ms : null;
}

/** The shortest text that parseDurationMs reads back: 90000 is `90s`, 3600000 is `1h`. */
export function formatDurationMs(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's']) {
    const unitMs = UNIT_MS[unit];
    if (ms >= unitMs && ms % unitMs === 0) return `${ms / unitMs}${unit}`;
  }
  return `${ms}ms`;
}

/** Below, a window would hold less than one message of a fast device: more rows than readings. */
const SIZE_MS_MIN = 100;
/** Above, an open window would outlive the 30 days after which a consumer of `readings` is declared broken. */
const SIZE_MS_MAX = 30 * 86_400_000;
/** Those that share no panes cost a slot update each per run of readings. */
const DEFINITIONS_MAX = 16;
/** So many windows hold a reading at most: each is a row of `aggregates` of its own. */
const OVERLAPS_MAX = 60;

const durationSchema = z.string().transform((text, context) => {
  const ms = parseDurationMs(text);
  if (ms === null) {
    context.addIssue({ code: 'custom', message: `'${text}' is not a duration like 10s, 1m, 1h or 1d` });
    return z.NEVER;
  }
  if (ms < SIZE_MS_MIN || ms > SIZE_MS_MAX) {
    context.addIssue({
      code: 'custom',
      message: `${text} is outside ${formatDurationMs(SIZE_MS_MIN)} … ${formatDurationMs(SIZE_MS_MAX)}`,
    });
    return z.NEVER;
  }
  return ms;
});

/** One definition as a configuration file has it (`size: 1m`); parses to a WindowDefinition. */
export const windowDefinitionSchema = z
  .strictObject({
    name: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/, 'a name is 1 to 32 letters, digits, - or _')
      .describe('Name in queries'),
    size: durationSchema.describe('Length of the window: a whole number with ms, s, m, h or d'),
    slide: durationSchema
      .optional()
      .describe(`A hopping window starts every so often; the size is a multiple of it, ${OVERLAPS_MAX}-fold at most. Absent: tumbling`),
    by: z.enum(['series', 'metric']).default('series').describe('series: per gateway, device, metric and tags; metric: over all devices'),
    persisted: z.boolean().default(true).describe('Kept in the lake; otherwise live only'),
  })
  .superRefine(({ size, slide = size }, context) => {
    const overlaps = size / slide;
    if (Number.isInteger(overlaps) && overlaps <= OVERLAPS_MAX) return;
    context.addIssue({
      code: 'custom',
      path: ['slide'],
      message: `a size of ${formatDurationMs(size)} is ${overlaps} slides of ${formatDurationMs(slide)}; 1 to ${OVERLAPS_MAX}, a whole number, would be right`,
    });
  })
  .transform(({ name, size, slide = size, by, persisted }): WindowDefinition => {
    const hopping = slide === size ? {} : { slideMs: slide };
    return { name, sizeMs: size, ...hopping, by, persisted };
  });

/** The definitions of a hub. Equal definitions under two names are refused: they would write the same rows twice. */
export const windowDefinitionsSchema = z
  .array(windowDefinitionSchema)
  .min(1)
  .max(DEFINITIONS_MAX)
  .superRefine((definitions, context) => {
    const names = new Set<string>();
    const byHash = new Map<string, string>();
    definitions.forEach((definition, index) => {
      if (names.has(definition.name))
        context.addIssue({ code: 'custom', path: [index, 'name'], message: `the name '${definition.name}' is used twice` });
      names.add(definition.name);
      const hash = definitionHash(definition);
      const twin = byHash.get(hash);
      if (twin !== undefined && twin !== definition.name) {
        context.addIssue({ code: 'custom', path: [index], message: `'${definition.name}' is the same window as '${twin}'` });
      }
      byHash.set(hash, definition.name);
    });
  });

/** 10 s is live only: at 1 Hz a persisted row of it costs more bytes than the readings that it sums up (measured). */
export const DEFAULT_WINDOW_DEFINITIONS: readonly WindowDefinition[] = [
  { name: '10s', sizeMs: 10_000, by: 'series', persisted: false },
  { name: '1m', sizeMs: 60_000, by: 'series', persisted: true },
  { name: '1h', sizeMs: 3_600_000, by: 'series', persisted: true },
  { name: '1m_by_metric', sizeMs: 60_000, by: 'metric', persisted: true },
];

/**
 * Identity of what determines the partials: 16 hex digits of the SHA-256 of canonical JSON (sorted keys, no white space).
 *
 * Neither the name nor `persisted` is in it: renaming a window keeps its rows.
 */
export function definitionHash(definition: WindowDefinition): string {
  let hash = hashes.get(definition);
  if (hash === undefined) hashes.set(definition, (hash = hashOf(definition)));
  return hash;
}

/** Captures ask for it hundreds of times a second. */
const hashes = new WeakMap<WindowDefinition, string>();

function hashOf(definition: WindowDefinition): string {
  const { by, sizeMs, slideMs } = definition;
  const identity = {
    functions: FUNCTIONS_VERSION,
    histogram: { kind: 'exponential', scale: HISTOGRAM_SCALE },
    keys: GROUP_KEYS[by],
    sizeMs,
    ...(slideMs === undefined ? { type: 'tumbling' } : { slideMs, type: 'hopping' }),
  };
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 16);
}

/** What an answer chooses from when no window is named: those by series without overlaps, as far as there are any. */
export function usualDefinitions(definitions: readonly WindowDefinition[]): readonly WindowDefinition[] {
  const tumbling = definitions.filter(({ slideMs }) => slideMs === undefined);
  const bySeries = tumbling.filter(({ by }) => by === 'series');
  return [bySeries, tumbling].find(({ length }) => length > 0) ?? definitions;
}

/** Event time between the starts of two windows, in µs. */
export function slideUsOf(definition: WindowDefinition): number {
  return (definition.slideMs ?? definition.sizeMs) * 1000;
}

/** Start of the window that an event time lies in, both in µs; of a hopping window of the last one that holds it. */
export function windowStartUs(definition: WindowDefinition, eventTimeUs: number): number {
  const slideUs = slideUsOf(definition);
  return Math.floor(eventTimeUs / slideUs) * slideUs;
}

/** Starts of all windows that an event time lies in, last to first. */
export function windowStartsUs(definition: WindowDefinition, eventTimeUs: number): number[] {
  const slideUs = slideUsOf(definition);
  const lastUs = windowStartUs(definition, eventTimeUs);
  return Array.from({ length: (definition.sizeMs * 1000) / slideUs }, (_, hop) => lastUs - hop * slideUs);
}
