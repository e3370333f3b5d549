import { readFileSync } from 'node:fs';

function findVersion(): string {
  // Source and build lie at different depths; the package file is the nearest one upwards that is ours.
  for (const relative of ['../package.json', '../../package.json']) {
    try {
      const parsed = JSON.parse(readFileSync(new URL(relative, import.meta.url), 'utf8')) as { name?: string; version?: string };
      if (parsed.name === 'sluice' && parsed.version !== undefined) return parsed.version;
    } catch {
      // Not there: the other place has it, and if neither has, the throw below says so.
    }
  }
  throw new Error('package.json of sluice not found beside the program');
}

export const VERSION = findVersion();
