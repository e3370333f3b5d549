/**
 * The power of a site returns to everything at once: gateways come with a backlog, thousands of devices reconnect in one
 * moment, and the hub starts. Live data stays fresh while the backlog drains, and memory does not grow with it.
 */
import { fetchJson, until } from '../../e2e/processes.ts';
import type { Scenario } from '../scenario.ts';
import { AgeWatch, MemoryWatch, percentile } from '../watch.ts';

const DEVICES = 2_000;
const DEVICES_PER_MINUTE_MIN = 200;
/** So many times real time: what a minute of outage leaves here, hours of one device a second leave there. */
const BACKLOG_MESSAGES_PER_SECOND = 20;
const DRAIN_MS_MAX = 300_000;
/** Chosen: fresh means that a person who looks sees now, not the outage. The usual is seal interval + commit of the loaded machine. */
const AGE_P99_MS_MAX = 15_000;
/** Chosen: about twice what a gateway and a hub take under full load without any backlog. */
const GATEWAY_MEGABYTES_MAX = 350;
const HUB_MEGABYTES_MAX = 1_000;

interface GatewayStatus {
  readonly backlog: { readonly readings: number };
}

async function backlogOf(url: string): Promise<number> {
  return (await fetchJson<GatewayStatus>(`${url}/v1/status`)).backlog.readings;
}

export const storm: Scenario = {
  name: 'storm',
  about: 'power returns to hub, gateways with a backlog and thousands of devices at once',
  needs: [],
  announcedLoss: false,
  control: null,
  async run(trial) {
    const system = await trial.start();
    const { gateway, hub } = system;
    await trial.recovered(gateway.httpUrl, hub.url);
    await hub.program.kill();
    trial.fault('hub without power');
    const past = trial.fleet('past', gateway.mqttPort, { devices: 40, messagesPerSecond: BACKLOG_MESSAGES_PER_SECOND });
    while (trial.goesOn) await trial.pause(200);
    await trial.endFleet(past);
    const backlog = await backlogOf(gateway.httpUrl);
    trial.measure('backlog readings', backlog);
    await gateway.program.kill();
    trial.fault('gateway without power');

    const devices = Math.round(Math.min(DEVICES, Math.max(DEVICES_PER_MINUTE_MIN, DEVICES * trial.minutes)));
    const crowd = trial.fleet('crowd', gateway.mqttPort, {
      devices,
      messagesPerSecond: 0.1,
      fleetArgs: ['--connects-per-second-max', '5000'],
    });
    const startMs = performance.now();
    await Promise.all([hub.program.start(), gateway.program.start()]);
    trial.fault('power returns', `to ${devices} devices and a backlog of ${backlog} readings`);
    const memory = new MemoryWatch([hub.program, gateway.program]);
    const age = new AgeWatch(gateway.httpUrl, hub.url);
    await until(
      'the backlog to drain',
      async () => ((await backlogOf(gateway.httpUrl).catch(() => Infinity)) < Math.min(5_000, backlog / 20 + 1_000) ? true : null),
      DRAIN_MS_MAX,
    );
    trial.measure('drain seconds', Math.round((performance.now() - startMs) / 100) / 10);
    await age.stop();
    const ageMs = percentile(age.agesMs, 0.99);
    trial.measure('live age p50 ms', percentile(age.agesMs, 0.5) ?? '-');
    trial.measure('live age p99 ms', ageMs ?? '-');
    if (ageMs === null || ageMs > AGE_P99_MS_MAX)
      trial.violation(`live data was ${ageMs} ms old at p99 while the backlog drained, ${AGE_P99_MS_MAX} ms is the limit`);
    for (const [name, megabytes] of memory.stop()) {
      trial.measure(`${name} peak MB`, megabytes);
      const limit = name === 'hub' ? HUB_MEGABYTES_MAX : GATEWAY_MEGABYTES_MAX;
      if (megabytes > limit) trial.violation(`${name} took ${megabytes} MB, ${limit} MB is the limit`);
    }
    await trial.endFleet(crowd);
    await trial.settle(system);
    await trial.judge('past', hub.url);
    await trial.judge('crowd', hub.url);
  },
};
