import type { Need } from './needs.ts';
import type { Trial } from './trial.ts';

/** One way to hurt the system, and what must still hold. */
export interface Scenario {
  readonly name: string;
  readonly about: string;
  /** What the machine must offer; without it the scenario is skipped with a message. */
  readonly needs: readonly Need[];
  /** Runs in a network namespace of its own where the machine lets us have one. */
  readonly wantsNamespace?: boolean;
  /** Readings may be missing if an exception says so with its reason: the fault destroys what only existed once. */
  readonly announcedLoss: boolean;
  /** One fault follows the other: it can be told to end after so many. */
  readonly isCounted?: boolean;
  /** Starts a system, hurts it until the trial's time is over, and settles it. Asks `trial.isControl` where the control differs. */
  run(trial: Trial): Promise<void>;
  /** What is deliberately broken in the negative control; null: there is none. */
  readonly control: { readonly about: string; readonly needs: readonly Need[] } | null;
}
