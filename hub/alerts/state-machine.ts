/**
 * The states of an alert, as windows go by. Pure: the same windows give the same transitions, whoever evaluates them when.
 *
 *   inactive ──fire──▶ pending ──held for `for`──▶ firing ──clear──▶ inactive
 *       ▲                 │ hold, clear
 *       └─────────────────┘
 *
 * A firing alert stays firing on `hold` (hysteresis); a pending one has to fire without a break. Time is event time, that of
 * the windows: `for` of five minutes is five windows of a minute, however late they came.
 */
import type { Verdict, VerdictRow } from './verdicts.ts';

export type Phase = 'inactive' | 'pending' | 'firing';

export interface Progress {
  readonly phase: Phase;
  /** Start of the first window of the run that fires, µs; of no meaning while inactive. */
  readonly sinceUs: number;
}

export const INACTIVE: Progress = { phase: 'inactive', sinceUs: 0 };

export function step(
  progress: Progress,
  { verdict, startUs, endUs }: { readonly verdict: Verdict; readonly startUs: number; readonly endUs: number },
  forUs: number,
): Progress {
  if (progress.phase === 'firing') return verdict === 'clear' ? INACTIVE : progress;
  if (verdict !== 'fire') return INACTIVE;
  const sinceUs = progress.phase === 'pending' ? Math.min(progress.sinceUs, startUs) : startUs;
  return { phase: endUs - sinceUs >= forUs ? 'firing' : 'pending', sinceUs };
}

export interface Change {
  readonly from: Phase;
  readonly to: Progress;
  readonly row: VerdictRow;
}

export interface Replay {
  readonly progress: Progress;
  readonly changes: readonly Change[];
}

/** Goes through windows in the order of their ends. */
export function replay(start: Progress, rows: readonly VerdictRow[], forUs: number): Replay {
  let progress = start;
  const changes: Change[] = [];
  for (const row of rows) {
    const next = step(progress, row, forUs);
    if (next.phase !== progress.phase) changes.push({ from: progress.phase, to: next, row });
    progress = next;
  }
  return { progress, changes };
}

/** Closed windows that had no value, as rows that clear: what `missing: clear` makes of them. */
export function withMissing(
  rows: readonly VerdictRow[],
  key: string,
  { fromUs, toUs, slideUs, sizeUs }: { readonly fromUs: number; readonly toUs: number; readonly slideUs: number; readonly sizeUs: number },
): VerdictRow[] {
  const byEnd = new Map(rows.map((row) => [row.endUs, row]));
  for (let endUs = fromUs + slideUs; endUs <= toUs; endUs += slideUs) {
    if (byEnd.has(endUs)) continue;
    byEnd.set(endUs, { key, startUs: endUs - sizeUs, endUs, value: null, verdict: 'clear', closed: true });
  }
  return [...byEnd.values()].sort((a, b) => a.endUs - b.endUs);
}

export interface Horizon {
  /** Windows that end at or before it are in `base` and never looked at again. */
  readonly baseUs: number;
  /** Up to here windows have been evaluated before: what changes there is late. */
  readonly seenUs: number;
  /** What is closed now. */
  readonly closedUs: number;
  /** `baseUs` of the next round. */
  readonly nextBaseUs: number;
}

/** What the alert is known to be: the outcome of all transitions so far. */
export interface Known extends Progress {
  /** End of the window of its last transition. */
  readonly endUs: number;
}

export interface Outcome {
  /** In order; the last one is what the alert is now. `late`: windows changed that had been evaluated. */
  readonly transitions: readonly (Change & { readonly cause: 'window' | 'late' | 'early' })[];
  readonly nextBase: Progress;
}

/**
 * One group's windows since the base, once more: what has to be told that has not been told.
 *
 * Late readings may have changed windows that were evaluated: then the alert becomes what they make it, in one transition; an
 * alert that would have come and gone meanwhile is told as both. Without a window that says otherwise nothing is taken back:
 * a row that could not be read is no proof.
 *
 * @param wasTold whether an alert that fired by the window that ends then, and is over, has been told
 */
export function evaluate(
  base: Progress,
  known: Known | null,
  rows: readonly VerdictRow[],
  horizon: Horizon,
  forUs: number,
  wasTold: (endUs: number) => boolean,
): Outcome {
  const { baseUs, seenUs, closedUs, nextBaseUs } = horizon;
  const inside = rows.filter(({ endUs, closed }) => endUs > baseUs && (!closed || endUs <= closedUs));
  const closed = inside.filter((row) => row.closed);
  const old = replay(
    base,
    closed.filter(({ endUs }) => endUs <= seenUs),
    forUs,
  );
  const transitions: (Change & { cause: 'window' | 'late' | 'early' })[] = [];
  let progress: Progress = known ?? INACTIVE;
  if (old.progress.phase !== progress.phase) {
    const witness = closed.findLast(({ endUs }) => endUs <= seenUs);
    const isProven = witness !== undefined && (known === null || witness.endUs >= known.endUs);
    if (isProven) {
      const row = old.changes.at(-1)?.row ?? witness;
      transitions.push({ from: progress.phase, to: old.progress, row, cause: 'late' });
      progress = old.progress;
    }
  } else {
    // Late readings may have moved the start of what is pending.
    progress = old.progress;
    if (progress.phase === 'inactive') transitions.push(...episodes(old.changes, wasTold));
  }
  const fresh = replay(
    progress,
    closed.filter(({ endUs }) => endUs > seenUs),
    forUs,
  );
  transitions.push(...fresh.changes.map((change) => ({ ...change, cause: 'window' as const })));
  const early = replay(
    fresh.progress,
    inside.filter(({ closed: isClosed, verdict }) => !isClosed && verdict === 'fire'),
    forUs,
  );
  transitions.push(...early.changes.map((change) => ({ ...change, cause: 'early' as const })));
  const nextBase = replay(
    base,
    closed.filter(({ endUs }) => endUs <= nextBaseUs),
    forUs,
  ).progress;
  return { transitions, nextBase };
}

/** Alerts that fired and cleared among windows that had been evaluated without it. */
function episodes(changes: readonly Change[], wasTold: (endUs: number) => boolean): (Change & { cause: 'late' })[] {
  const told: (Change & { cause: 'late' })[] = [];
  changes.forEach((change, index) => {
    const end = changes[index + 1];
    if (change.to.phase !== 'firing' || end === undefined || wasTold(change.row.endUs)) return;
    told.push({ ...change, from: 'inactive', cause: 'late' }, { ...end, cause: 'late' });
  });
  return told;
}
