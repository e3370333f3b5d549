/** The name that somebody meant who mistyped one. */

/** Longer ones are never a typing error of ours. */
const CHARACTERS_MAX = 64;

/** Insertions, deletions, replacements and swaps of neighbours that make one of the other. */
function distance(a: string, b: string): number {
  const rows: number[][] = [];
  for (let i = 0; i <= a.length; i++) {
    rows.push([i]);
    for (let j = 1; j <= b.length; j++) {
      if (i === 0) {
        rows[0].push(j);
        continue;
      }
      const replaced = rows[i - 1][j - 1] + Number(a[i - 1] !== b[j - 1]);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      rows[i].push(Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, replaced, isSwapped ? rows[i - 2][j - 2] + 1 : Infinity));
    }
  }
  return rows[a.length][b.length];
}

/** null: none is near (a third of its characters may be wrong; plural, case, - and _ do not count). */
export function nearestName(given: string, names: readonly string[]): string | null {
  if (given.length > CHARACTERS_MAX) return null;
  const plain = (name: string): string => name.toLowerCase().replaceAll(/[-_]/g, '').replace(/s$/, '');
  let [best, bestDistance]: [string | null, number] = [null, Infinity];
  for (const name of names) {
    const away = distance(plain(given), plain(name));
    if (away < bestDistance && away <= Math.max(1, Math.floor(name.length / 3))) [best, bestDistance] = [name, away];
  }
  return best;
}
