/** The disks of gateway and hub fill up, and reads and writes of them fail. Nobody exits, nothing unstored is acknowledged, and it mends by itself. */
import path from 'node:path';
import { FailingCalls } from '../failing-calls.ts';
import { LoopDisk } from '../loop-disk.ts';
import { missing } from '../needs.ts';
import { Rounds } from '../random.ts';
import type { Scenario } from '../scenario.ts';

const GATEWAY_MEGABYTES = 64;
const LAKE_MEGABYTES = 128;
const SYNC_CALLS = ['fsync', 'fdatasync'];
/** Not write(2), which also is how threads wake one another: a program cannot do without that. */
const DISK_CALLS = ['pwrite64', 'fsync', 'fdatasync', 'link', 'rename', 'mkdir', 'ftruncate', 'unlink'];

type Victim = 'gateway' | 'hub';
type DiskFault = { readonly victim: Victim; readonly kind: 'full' | 'almost full' | 'fsync fails' | 'some calls fail' };

export const disk: Scenario = {
  name: 'disk',
  about: 'the disk of gateway or hub is full, or its writes and fsyncs fail; then it is well again',
  needs: ['loop devices'],
  announcedLoss: false,
  control: { about: 'a gateway that acknowledges on receipt', needs: ['loop devices'] },
  async run(trial) {
    const { directory, lakeDir } = trial.lab;
    const disks = {
      gateway: LoopDisk.create(path.join(directory, 'images', 'gateway.img'), path.join(directory, 'gw-1'), GATEWAY_MEGABYTES),
      hub: LoopDisk.create(path.join(directory, 'images', 'lake.img'), lakeDir, LAKE_MEGABYTES),
    };
    for (const each of Object.values(disks)) trial.onClose(() => each.close());
    // Devices keep what the gateway does not take: with drop-oldest a full disk would be an announced loss instead.
    const gatewayArgs = [
      '--journal-free-space-reserve-bytes',
      '0',
      '--journal-buffer-policy',
      'reject',
      '--journal-buffer-bytes-max',
      String(2 ** 30),
    ];
    const system = await trial.start({ gatewayArgs, acknowledgeOnReceipt: trial.isControl });
    const programs = { gateway: system.gateway.program, hub: system.hub.program };
    const noStrace = missing(['strace']);
    if (noStrace !== null) trial.log(`no I/O errors: that needs ${noStrace}`);
    const kinds = ['full', 'almost full', ...(noStrace === null ? (['fsync fails', 'some calls fail'] as const) : [])] as const;
    const rounds = new Rounds<DiskFault>(
      (['gateway', 'hub'] as const).flatMap((victim) => kinds.map((kind) => ({ victim, kind }))),
      trial.random,
    );
    await trial.pause(1_000);
    while (trial.goesOn) {
      const { victim, kind } = rounds.next();
      const program = programs[victim];
      const { pid } = program;
      const mustBuffer = victim === 'gateway' && trial.random.next() < 0.5;
      if (mustBuffer) system.link.cut();
      trial.fault(`${victim}: ${kind}`, mustBuffer ? 'while the hub is away' : '');
      if (kind === 'full' || kind === 'almost full') {
        disks[victim].fill(kind === 'full' ? 0 : 200_000);
        await trial.pause(1_000, 8_000);
        disks[victim].clear();
      } else {
        const failing = await FailingCalls.of(pid, kind === 'fsync fails' ? SYNC_CALLS : DISK_CALLS, kind === 'fsync fails' ? 1 : 7);
        await trial.pause(500, 3_000);
        await failing.stop();
      }
      if (mustBuffer) system.link.heal();
      await trial.pause(200, 2_500);
      if (!program.isRunning) {
        trial.violation(`${program.name} ended by itself on ${kind}:\n${program.log.slice(-2_000)}`);
        await program.kill();
        await program.start();
      }
    }
    await trial.settle(system);
  },
};
