/** One line of the doctor's report. */
export interface Check {
  readonly name: string;
  readonly result: 'ok' | 'warn' | 'fail';
  /** What was found, with its numbers. */
  readonly detail: string;
  /** What to do; null: nothing. */
  readonly advice: string | null;
}

export function ok(name: string, detail: string): Check {
  return { name, result: 'ok', detail, advice: null };
}

export function warn(name: string, detail: string, advice: string): Check {
  return { name, result: 'warn', detail, advice };
}

export function fail(name: string, detail: string, advice: string): Check {
  return { name, result: 'fail', detail, advice };
}

export function bytesText(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`;
}
