/** What `sluice-sim verify --json` prints, as far as the tests look at it. */
export interface Report {
  readonly ok: boolean;
  readonly failures: readonly string[];
  readonly ledger: { readonly devices: number; readonly readingsAcked: number; readonly complete: boolean };
  readonly lake: { readonly rows: number; readonly exceptions: Readonly<Record<string, number>> };
  readonly readings: {
    readonly acked: number;
    readonly found: number;
    readonly accountedFor: number;
    readonly lost: number;
    readonly duplicated: number;
    readonly altered: number;
  };
  readonly windows: readonly { readonly window: string; readonly answered: number; readonly wrong: number }[];
  readonly examples: readonly string[];
}

export function parseReport(text: string): Report {
  return JSON.parse(text) as Report;
}
