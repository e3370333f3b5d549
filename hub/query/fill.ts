/** Values for windows without readings, from their neighbours of the same group. Pure. */
import type { AggregateFunction } from '../../shared/window/partial.ts';

export const FILL_MODES = ['null', 'previous', 'linear'] as const;
export type FillMode = (typeof FILL_MODES)[number];

/**
 * @param rows values of each window of one group in order of time, windows equally far apart; null: no reading
 * @returns for each window its values; `count` of an empty one is 0 whatever the mode. Before the first reading, and with
 *   `linear` behind the last, there is nothing to go by: null.
 */
export function fillValues(
  rows: readonly (readonly (number | null)[] | null)[],
  functions: readonly AggregateFunction[],
  mode: FillMode,
): (readonly (number | null)[])[] {
  const columns = functions.map((name, index) => {
    const values = rows.map((row) => row?.[index] ?? null);
    if (name === 'count') return values.map((value) => value ?? 0);
    if (mode === 'previous') return previous(values);
    return mode === 'linear' ? linear(values) : values;
  });
  return rows.map((row, index) => row ?? columns.map((values) => values[index]));
}

function previous(values: readonly (number | null)[]): (number | null)[] {
  let last: number | null = null;
  return values.map((value) => (last = value ?? last));
}

function linear(values: readonly (number | null)[]): (number | null)[] {
  const known = values.flatMap((value, index) => (value === null ? [] : [{ index, value }]));
  const result = [...values];
  for (let next = 1; next < known.length; next++) {
    const [from, to] = [known[next - 1], known[next]];
    for (let index = from.index + 1; index < to.index; index++) {
      result[index] = from.value + (to.value - from.value) * ((index - from.index) / (to.index - from.index));
    }
  }
  return result;
}
