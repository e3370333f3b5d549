/** The numbers of the systemd unit, each with its reason, in one place for package and tests. */

/**
 * For the node of the service. `holdHeap` sets what can be set while it runs; this is for the threads, which take it over
 * when they start.
 */
export const NODE_FLAGS: readonly string[] = ['--v8-pool-size=1'];

export const ENVIRONMENT: Readonly<Record<string, string>> = {
  NODE_ENV: 'production',
  MALLOC_ARENA_MAX: '2',
  MALLOC_TRIM_THRESHOLD_: '131072',
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
