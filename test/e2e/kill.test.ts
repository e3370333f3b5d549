import { afterEach, expect, test } from 'vitest';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Link } from './link.ts';
import { Lab } from './processes.ts';
import { parseReport } from './report.ts';

let lab: Lab;
let link: Link | null = null;
afterEach(async () => {
  await lab.close();
  await link?.close();
});

/** mulberry32: a seed gives a run that can be repeated, up to the timing of real processes. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const seed = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 1_000_000);
const rounds = Number(process.env['SLUICE_TEST_KILL_ROUNDS'] ?? 6);

test(
  `SIGKILL of gateway, hub and both, ${rounds} rounds, with the link cut and half-open between: nothing lost, doubled, altered or wrong (seed ${seed})`,
  { timeout: 240_000 },
  async () => {
    console.log(`kill test: seed ${seed} (SLUICE_TEST_SEED repeats it)`);
    const random = randomOf(seed);
    lab = new Lab();
    const hub = await lab.hub();
    link = await Link.to(hub.port);
    const gateway = await lab.gateway('gw-1', `http://127.0.0.1:${link.port}`, ['--uplink-watchdog-ms', '4000']);
    const ledger = path.join(lab.directory, 'ledger.json');
    const fleet = lab.fleet(
      ledger,
      [gateway.mqttPort],
      ['--devices', '40', '--duration', '3600', '--rate', '2', '--qos', '0,7,3', '--drain-timeout', '60'],
    );
    let kills = 0;
    for (let round = 0; round < rounds; round++) {
      await sleep(200 + random() * 1_200);
      const what = ['gateway', 'hub', 'both', 'gateway', 'hub', 'cut', 'half-open'][round < 5 ? round : Math.floor(random() * 7)];
      if (what === 'cut') {
        link.cut();
        await sleep(random() * 1_500);
        link.heal();
      } else if (what === 'half-open') {
        link.halfOpen();
        await sleep(500 + random() * 1_500);
        link.heal();
      } else {
        const victims = what === 'both' ? [gateway.program, hub.program] : [what === 'gateway' ? gateway.program : hub.program];
        await Promise.all(victims.map((victim) => victim.kill()));
        kills += victims.length;
        await sleep(random() * 400);
        for (const victim of victims.reverse()) await victim.start();
      }
    }
    while (kills < rounds) {
      await gateway.program.kill();
      await gateway.program.start();
      kills++;
    }
    link.cut();
    await sleep(300);
    link.heal();
    link.halfOpen();
    await sleep(300);
    link.heal();
    await sleep(1_000);
    expect(await fleet.end('SIGINT'), fleet.log).toBe(0);
    const report = parseReport(
      await lab.verify(ledger, hub.url).catch((error: unknown) => {
        throw new Error(`seed ${seed}, ${kills} kills: ${String(error)}\n${lab.logs()}`);
      }),
    );
    expect(report.readings).toMatchObject({ lost: 0, duplicated: 0, altered: 0 });
    expect(report.windows.every((window) => window.wrong === 0)).toBe(true);
    expect(report.readings.acked).toBeGreaterThan(1_000);
    console.log(`kill test: ${kills} kills, ${report.readings.acked} acknowledged readings, all in the lake once`);
  },
);
