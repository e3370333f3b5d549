/** Damage to files, from a seed. */
import { closeSync, openSync, readdirSync, statSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { SeededRandom } from './random.ts';

const PLACES_MAX = 4;
const BYTES_MAX = 64;

/** Overwrites random bytes in a few places of [from, to) of a file. @returns what was done */
export function overwrite(file: string, random: SeededRandom, from = 0, to = statSync(file).size): string {
  const descriptor = openSync(file, 'r+');
  const places: string[] = [];
  try {
    for (let place = 1 + random.index(PLACES_MAX); place > 0; place--) {
      const at = from + random.index(to - from);
      const bytes = Buffer.alloc(Math.min(to - at, 1 + random.index(BYTES_MAX))).map(() => random.index(256));
      writeSync(descriptor, bytes, 0, bytes.length, at);
      places.push(`${bytes.length} at ${at}`);
    }
  } finally {
    closeSync(descriptor);
  }
  return `${path.basename(file)}: ${places.join(', ')} of ${statSync(file).size} bytes`;
}

/** All files below a directory whose names match, oldest name first. */
export function filesBelow(directory: string, pattern: RegExp): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}
