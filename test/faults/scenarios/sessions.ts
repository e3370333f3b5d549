/**
 * Persistent sessions under SIGKILL of the gateway: publishers of QoS 1 and 2; subscribers that are there, that are cut off and
 * that sleep while commands wait for them; retained messages.
 *
 * Held against the ledger: telemetry is in the lake once (QoS 2 without a time of its own, QoS 1 with one); what was acknowledged
 * to its publisher reaches each session at least once, and exactly once where publisher and subscription have QoS 2; a session
 * is there at each connect and nobody has to subscribe again; what was unsubscribed stays so; what is retained is never older
 * than what was acknowledged.
 */
import Database from 'better-sqlite3';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Scenario } from '../scenario.ts';
import { SessionWorld } from '../session-world.ts';
import type { Trial } from '../trial.ts';

const FREEZE_SHARE = 0.3;
const DRAIN_MS_MAX = 60_000;
const CONTROL_DRAIN_MS_MAX = 15_000;

/** The gateway forgets under which ids it has sent what to whom, and what was released. */
function forgetHandshakes(dataDir: string): void {
  const db = new Database(path.join(dataDir, 'journal', 'journal.db'));
  try {
    db.exec('UPDATE outgoing SET message_id = NULL, released = 0');
  } finally {
    db.close();
  }
}

/** Takes part of the clients' connections away, and puts sleepers to bed and wakes them. */
async function disturb({ random, goesOn }: Trial, world: SessionWorld): Promise<void> {
  if (!goesOn) return;
  for (const { client, name } of world.subscribers) {
    if (!name.startsWith('sleeper')) continue;
    if (random.next() < 0.5) client.sleep();
    else client.wake();
  }
  if (random.next() < 0.3) random.pick(world.clients).cut();
  await sleep(random.between(0, 300));
}

export const sessions: Scenario = {
  name: 'sessions',
  about: 'SIGKILL of the gateway under persistent sessions: publishers and sleeping subscribers of QoS 1 and 2, retained messages',
  needs: [],
  announcedLoss: false,
  isCounted: true,
  control: { about: 'a gateway that forgets at each start which QoS 2 messages it has already sent to whom', needs: [] },
  async run(trial) {
    const system = await trial.start({ devices: 10 });
    const { gateway } = system;
    const world = new SessionWorld(trial, gateway);
    await world.open();
    const working = Promise.all([world.publish(() => trial.goesOn), world.switch(() => trial.goesOn)]);
    while (trial.goesOn) {
      await disturb(trial, world);
      await trial.pause(100, 1_200);
      if (trial.random.next() < FREEZE_SHARE) {
        gateway.program.signal('SIGSTOP');
        await trial.pause(50, 300);
      }
      await gateway.program.kill();
      trial.fault('kill gateway');
      if (trial.isControl) forgetHandshakes(gateway.dataDir);
      await trial.pause(0, 300);
      await gateway.program.start();
      if (trial.random.next() < 0.3) await world.checkRetained(2_000, false);
    }
    await working;
    await world.drain(trial.isControl ? CONTROL_DRAIN_MS_MAX : DRAIN_MS_MAX);
    await world.checkRetained(10_000, true);
    await trial.recovered(gateway.httpUrl, system.hub.url);
    await world.judge(trial.lab.lakeDir, trial.isControl ? 5_000 : DRAIN_MS_MAX);
    await trial.settle(system);
  },
};
