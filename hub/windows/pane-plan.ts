/**
 * Which slots window definitions share.
 *
 * Every window is a union of panes: spans of event time that no window of any definition cuts (Li et al., "No pane, no
 * gain", SIGMOD 2005). A reading goes into one pane; windows are put together from panes when someone asks for them, so a
 * further definition costs a batch nothing as long as its windows are made of panes that are there, and a hopping window
 * costs no more than a tumbling one. Panes by series serve windows by metric too.
 *
 * Pure.
 */
import { slideUsOf, type WindowBy, type WindowDefinition } from '../../shared/window/definition.ts';

export interface PaneBase {
  readonly by: WindowBy;
  /** Panes are [k × paneUs, (k + 1) × paneUs). */
  readonly paneUs: number;
}

export interface PanePlan {
  readonly bases: readonly PaneBase[];
  /** Per definition, the index of the base that its windows are made of. */
  readonly baseOf: readonly number[];
}

/** Whether panes of `finer` put together are panes of `coarser`. */
export function serves(finer: PaneBase, coarser: PaneBase): boolean {
  return coarser.paneUs % finer.paneUs === 0 && (finer.by === coarser.by || finer.by === 'series');
}

/** The fewest bases that all definitions can be made of: those that no other one serves. */
export function planPanes(definitions: readonly WindowDefinition[]): PanePlan {
  // The schema of definitions sees to it that a slide divides its size: the slide is the pane.
  const natural = definitions.map((definition): PaneBase => ({ by: definition.by, paneUs: slideUsOf(definition) }));
  const bases: PaneBase[] = [];
  // Finest first, of equal length the one by series first: what serves another one comes before it.
  const inOrder = [...natural].sort((a, b) => a.paneUs - b.paneUs || (a.by === b.by ? 0 : a.by === 'series' ? -1 : 1));
  for (const one of inOrder) if (!bases.some((base) => serves(base, one))) bases.push(one);
  // Of several the coarsest: fewer panes to put together.
  const baseOf = natural.map((one) => bases.findLastIndex((base) => serves(base, one)));
  return { bases, baseOf };
}
