/** What was owed, one by one, against what was found. */
export interface Finding {
  /** Owed. */
  readonly due: number;
  readonly found: number;
  readonly lost: number;
  /** Came again where once was promised. */
  readonly duplicated: number;
  /** Came again where at least once was promised. */
  readonly again: number;
  /** What nobody has sent, and what is not as it was to be. */
  readonly invented: number;
  readonly examples: readonly string[];
}
