/**
 * A gateway whose buffer is full while the hub is away: it is thinned, series of a low priority first, and what went is told of.
 * Devices go on, the gateway is killed over it, and when the hub is back nothing else is missing and what matters most is whole.
 */
import { fetchJson, until } from '../../e2e/processes.ts';
import { fillJournal } from '../past-journal.ts';
import type { Scenario } from '../scenario.ts';

/** The smallest that the configuration takes. */
const BUFFER_BYTES_MAX = 8 * 1024 * 1024;
const SERIES = 50;
/** Random doubles do not compress: about eight bytes each, half as much again as fits. */
const SECONDS = 25_000;
const METRIC = 'past_value';
const VITAL = { device: 'vital', metric: METRIC, priority: 9 };
const THIN_MS_MAX = 240_000;

interface GatewayStatus {
  readonly journal: { readonly used_bytes: number; readonly thinning_steps: number };
  readonly exceptions: { readonly losses: readonly { readonly reason: string; readonly readings: number }[] };
}

interface Exceptions {
  readonly rows: readonly { readonly reading_count: number | null; readonly reason: string; readonly device: string | null }[];
}

export const buffer: Scenario = {
  name: 'buffer',
  about: 'the buffer is full while the hub is away: it is thinned by priority; then the hub returns',
  needs: [],
  announcedLoss: true,
  control: null,
  async run(trial) {
    const system = await trial.start({ gatewayArgs: ['--journal-buffer-bytes-max', String(BUFFER_BYTES_MAX)] });
    const { gateway, hub, link } = system;
    const status = (): Promise<GatewayStatus> => fetchJson(`${gateway.httpUrl}/v1/status`);
    link.cut();
    await gateway.program.kill();
    const series = [...Array.from({ length: SERIES - 1 }, (_, at) => ({ device: `past-${at}`, metric: METRIC, priority: 0 })), VITAL];
    const filled = await fillJournal(gateway.dataDir, {
      endMs: Date.now() - 60_000,
      seconds: SECONDS,
      series,
      valueOf: () => trial.random.next(),
    });
    trial.measure('readings of the outage', filled);
    trial.fault('buffer full', `${filled} readings`);
    await gateway.program.start();
    await until(
      'the buffer to be thinned',
      async () => {
        const { journal } = await status();
        return journal.thinning_steps > 0 && journal.used_bytes <= BUFFER_BYTES_MAX ? true : null;
      },
      THIN_MS_MAX,
    );
    do {
      await trial.pause(2_000, 4_000);
      await gateway.program.kill();
      trial.fault('gateway killed with a full buffer');
      await gateway.program.start();
      const { used_bytes: used } = (await status()).journal;
      if (used > BUFFER_BYTES_MAX) trial.violation(`the buffer takes ${used} bytes, ${BUFFER_BYTES_MAX} are allowed`);
    } while (trial.goesOn);
    const { losses } = (await status()).exceptions;
    link.heal();
    await trial.settle(system);

    const lostOf = (wanted: string): number => losses.find(({ reason }) => reason === wanted)?.readings ?? 0;
    trial.measure('thinned', lostOf('thinned'));
    trial.measure('dropped', lostOf('buffer_full'));
    const { rows: gaps } = await fetchJson<Exceptions>(`${hub.url}/v1/exceptions?kind=gap&from=now-24h&limit=1000`);
    const thinned = gaps.filter(({ reason }) => reason === 'thinned');
    const told = thinned.reduce((sum, { reading_count: count }) => sum + (count ?? NaN), 0);
    trial.measure('gaps', gaps.length);
    if (lostOf('thinned') === 0 || told !== lostOf('thinned'))
      trial.violation(`the gaps tell of ${told} thinned readings, the gateway thinned ${lostOf('thinned')}`);
    if (thinned.some(({ device }) => device === null || device === VITAL.device))
      trial.violation('a thinned gap names no device, or the vital one');
    const url = `${hub.url}/v1/aggregates?window=1h&metric=${METRIC}&from=now-24h&limit=10000`;
    const { rows } = await fetchJson<{ rows: readonly { readonly count: number; readonly device: string }[] }>(url);
    const countOf = (wanted: (device: string) => boolean): number =>
      rows.reduce((sum, { count, device }) => sum + (wanted(device) ? count : 0), 0);
    if (countOf((device) => device === VITAL.device) !== SECONDS)
      trial.violation(`${countOf((device) => device === VITAL.device)} of ${SECONDS} readings of the highest priority arrived`);
    const arrived = countOf(() => true);
    // The fleet's own readings from before the outage are thinned too; verify has judged those.
    const toldOfPast = thinned.reduce(
      (sum, { reading_count: count, device }) => sum + (device?.startsWith('past-') ? (count ?? NaN) : 0),
      0,
    );
    if (lostOf('buffer_full') === 0 && arrived + toldOfPast !== filled)
      trial.violation(`${arrived} readings arrived and ${toldOfPast} are told of, ${filled} there were`);
  },
};
