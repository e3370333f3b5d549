/** The power of the gateway's or the hub's disk fails while everything runs; what had reached the disk is all that there is afterwards. */
import path from 'node:path';
import { LoopDisk } from '../loop-disk.ts';
import { eatMyDataLibrary } from '../needs.ts';
import { Rounds } from '../random.ts';
import type { Scenario } from '../scenario.ts';

/** Above the journal's free-space reserve of 64 MiB. */
const GATEWAY_MEGABYTES = 192;
const LAKE_MEGABYTES = 256;

export const powerCut: Scenario = {
  name: 'powercut',
  about: 'the power of the disk of gateway, hub or both fails',
  needs: ['loop devices'],
  announcedLoss: false,
  isCounted: true,
  control: { about: 'fsync does nothing (libeatmydata)', needs: ['loop devices', 'libeatmydata'] },
  async run(trial) {
    const { directory, lakeDir } = trial.lab;
    const disks = {
      gateway: LoopDisk.create(path.join(directory, 'images', 'gateway.img'), path.join(directory, 'gw-1'), GATEWAY_MEGABYTES),
      hub: LoopDisk.create(path.join(directory, 'images', 'lake.img'), lakeDir, LAKE_MEGABYTES),
    };
    for (const disk of Object.values(disks)) trial.onClose(() => disk.close());
    const env = trial.isControl ? { LD_PRELOAD: eatMyDataLibrary() ?? '' } : {};
    const system = await trial.start({ gatewayEnv: env, hubEnv: env });
    const programs = { gateway: system.gateway.program, hub: system.hub.program };
    const rounds = new Rounds<readonly ('gateway' | 'hub')[]>([['gateway'], ['hub'], ['gateway', 'hub']], trial.random);
    while (trial.goesOn) {
      if (trial.isControl) await trial.pause(2_000);
      await trial.pause(1_500, 5_000);
      const victims = rounds.next();
      if (trial.isControl) {
        // Without it not even the tables' first versions would be whole and no program would start; what is lost is the time since.
        for (const victim of victims) disks[victim].sync();
        await trial.pause(1_500);
      }
      for (const victim of victims) disks[victim].cutPower();
      await Promise.all(victims.map((victim) => programs[victim].kill()));
      trial.fault(`power cut of ${victims.join(' and ')}`);
      for (const victim of victims) disks[victim].powerUp();
      await Promise.all(victims.map((victim) => programs[victim].start()));
    }
    await trial.settle(system);
  },
};
