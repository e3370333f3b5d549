/**
 * A gateway comes back with twelve hours of backlog. Live data does not wait for it: what is measured now is seen within two
 * seconds while the backlog drains beside it, and all of the backlog arrives.
 */
import { fetchJson, until } from '../../e2e/processes.ts';
import { fillJournal } from '../past-journal.ts';
import type { Scenario } from '../scenario.ts';
import { AgeWatch, MemoryWatch, percentile } from '../watch.ts';

const HOURS = 12;
/** A tenth of what a usual gateway has: what counts is the number of hours. */
const READINGS_PER_SECOND = 100;
const METRIC = 'backlog_value';
const LIVE_AGE_P99_MS_MAX = 2_000;
const REFERENCE_MS = 8_000;
const BUSY_FACTOR = 2;
const DRAIN_MS_MAX = 300_000;

interface GatewayStatus {
  readonly backlog: { readonly readings: number; readonly oldest_us: number | null };
  readonly lanes: readonly { readonly lane: string; readonly assigned: number }[];
}

export const backlog: Scenario = {
  name: 'backlog',
  about: `a gateway returns with ${HOURS} h of backlog: live data goes first, the backlog beside it`,
  needs: [],
  announcedLoss: false,
  control: null,
  async run(trial) {
    const system = await trial.start({ gatewayArgs: ['--journal-seal-interval-ms', '500'] });
    const { gateway, hub } = system;
    const status = (): Promise<GatewayStatus> => fetchJson(`${gateway.httpUrl}/v1/status`);
    await trial.recovered(gateway.httpUrl, hub.url);
    const before = new AgeWatch(gateway.httpUrl, hub.url);
    await trial.pause(REFERENCE_MS);
    await before.stop();
    const referenceMs = percentile(before.agesMs, 0.99) ?? Infinity;
    trial.measure('live age p99 ms without a backlog', referenceMs);
    await gateway.program.kill();
    const filled = await fillJournal(gateway.dataDir, {
      endMs: Date.now() - 60_000,
      seconds: HOURS * 3600,
      series: Array.from({ length: READINGS_PER_SECOND }, (_, at) => ({ device: `backlog-${at}`, metric: METRIC, priority: 0 })),
      valueOf: (second, series) => Math.round(Math.sin(second / 60 + series) * 1000) / 100,
    });
    trial.measure('backlog readings', filled);
    trial.fault('an outage', `${HOURS} h, ${filled} readings`);
    const startMs = performance.now();
    await gateway.program.start();
    const memory = new MemoryWatch([hub.program, gateway.program]);
    const age = new AgeWatch(gateway.httpUrl, hub.url);
    let isBeside = false;
    await until(
      'the backlog to drain',
      async () => {
        const { lanes, backlog: left } = await status();
        isBeside ||= lanes.some(({ lane, assigned }) => lane === 'backfill' && assigned > 0);
        const isYoung = left.oldest_us === null || left.oldest_us > (Date.now() - 60_000) * 1000;
        return isBeside && isYoung && left.readings < filled / 100 ? true : null;
      },
      DRAIN_MS_MAX,
    );
    const drainSeconds = (performance.now() - startMs) / 1000;
    await age.stop();
    trial.measure('drain seconds', Math.round(drainSeconds * 10) / 10);
    trial.measure('times real time', Math.round((HOURS * 3600) / drainSeconds));
    const ageMs = percentile(age.agesMs, 0.99);
    trial.measure('live age p50 ms', percentile(age.agesMs, 0.5) ?? '-');
    trial.measure('live age p99 ms', ageMs ?? '-');
    trial.measure('live samples', age.agesMs.length);
    // On a machine with other work the same run without a backlog is what there is to compare with.
    const limitMs = Math.max(LIVE_AGE_P99_MS_MAX, BUSY_FACTOR * referenceMs);
    if (ageMs === null || ageMs > limitMs)
      trial.violation(`live data was ${ageMs} ms old at p99 while the backlog drained, ${limitMs} ms is the limit`);
    for (const [name, megabytes] of memory.stop()) trial.measure(`${name} peak MB`, megabytes);
    while (trial.goesOn) await trial.pause(200);
    await trial.settle(system);
    const { rows } = await fetchJson<{ rows: readonly { readonly count: number }[] }>(
      `${hub.url}/v1/aggregates?window=1h&metric=${METRIC}&from=now-24h&limit=10000`,
    );
    const arrived = rows.reduce((sum, { count }) => sum + count, 0);
    if (arrived !== filled) trial.violation(`${arrived} of ${filled} readings of the backlog are in the windows`);
  },
};
