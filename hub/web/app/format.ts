/** Numbers, sizes and times as people read them. */

const whole = new Intl.NumberFormat('en');
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** Exact below ten thousand, `12.3K` above: a tile and a table column have room for so much. */
export function formatCount(value: number): string {
  return Math.abs(value) < 10_000 ? whole.format(Math.round(value)) : compact.format(value);
}

/** A measured value: five digits that matter, no exponent where none is needed. */
export function formatValue(value: number | null): string {
  if (value === null || Number.isNaN(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e12)) return value.toExponential(3);
  return new Intl.NumberFormat('en', { maximumSignificantDigits: size >= 10_000 ? 12 : 5, maximumFractionDigits: 4 }).format(value);
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 ? Math.round(value) : value.toPrecision(3)} ${units[unit] ?? ''}`;
}

export function formatDuration(ms: number): string {
  const size = Math.abs(ms);
  if (size < 1) return '0 ms';
  if (size < 1000) return `${Math.round(ms)} ms`;
  if (size < 9_950) return `${(ms / 1000).toFixed(1)} s`;
  if (size < 90_000) return `${Math.round(ms / 1000)} s`;
  if (size < 5_400_000) return `${Math.round(ms / 60_000)} min`;
  if (size < 172_800_000) return `${(ms / 3_600_000).toFixed(1)} h`;
  return `${(ms / 86_400_000).toFixed(1)} d`;
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

/** Local time of day; with the day unless it is today. */
export function formatTime(ms: number, nowMs: number): string {
  const date = new Date(ms);
  const time = clock.format(date);
  return date.toDateString() === new Date(nowMs).toDateString() ? time : `${day.format(date)} ${time}`;
}

/** `1m` as `1 min`; a name that is no duration stays as it is. */
export function formatWindowSize(ms: number): string {
  if (ms % 86_400_000 === 0) return `${ms / 86_400_000} d`;
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000} h`;
  if (ms % 60_000 === 0) return `${ms / 60_000} min`;
  return ms % 1000 === 0 ? `${ms / 1000} s` : `${ms} ms`;
}

/** How many readings a window misses, as far as that is known. */
export function formatLost(lost: number, isEstimate: boolean): string {
  if (!isEstimate) return formatCount(lost);
  return lost === 0 ? 'unknown' : `about ${formatCount(lost)}`;
}

export function plural(count: number, one: string, many: string): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}
