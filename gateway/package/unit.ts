/** The numbers of the systemd unit, each with its reason, in one place for package and tests. */

/**
 * One helper thread for V8 instead of four: 2 MB. The rest of the heap's bounds is set by the program itself
 * (heap-bounds.ts); lower ones on the command line saved nothing more at 1 k readings/s, and `--lite-mode`, which would
 * save 25 MB, does so by not compiling.
 */
export const NODE_FLAGS: readonly string[] = ['--v8-pool-size=1'];

/** One arena for all threads instead of eight for each core: 131 MB become 119 MB resident at 1 k readings/s (measured). */
export const ENVIRONMENT: Readonly<Record<string, string>> = {
  NODE_ENV: 'production',
  MALLOC_ARENA_MAX: '1',
  MALLOC_TRIM_THRESHOLD_: '65536',
};

/** Twice what it takes at its limit of connections, so that only a defect meets it; a Zero 2 W has 512 MB. */
const MEMORY_HIGH = '256M';
const MEMORY_MAX = '320M';

/** The unit file with its placeholders filled in. */
export function renderUnit(template: string): string {
  const environment = Object.entries(ENVIRONMENT).map(([name, value]) => `${name}=${value}`);
  return template
    .replace('@NODE_FLAGS@ ', NODE_FLAGS.map((flag) => `${flag} `).join(''))
    .replace('@ENVIRONMENT@', environment.join(' '))
    .replace('@MEMORY_HIGH@', MEMORY_HIGH)
    .replace('@MEMORY_MAX@', MEMORY_MAX);
}
