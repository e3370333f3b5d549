/** The link between gateway and hub fails in every way that a link can fail in. */
import type { Link } from '../../e2e/link.ts';
import { isInOwnNamespace, PacketFilter } from '../packet-filter.ts';
import { Rounds } from '../random.ts';
import type { Scenario } from '../scenario.ts';
import type { Trial } from '../trial.ts';

interface NetworkFault {
  readonly name: string;
  readonly durationMs: readonly [number, number];
  readonly begin: (trial: Trial) => void;
}

function linkFaults(link: Link): NetworkFault[] {
  return [
    { name: 'cut', durationMs: [200, 2_000], begin: () => link.cut() },
    { name: 'half-open', durationMs: [500, 6_000], begin: () => link.halfOpen() },
    { name: 'slow', durationMs: [2_000, 4_000], begin: (trial) => link.slow(trial.random.between(2_000, 20_000)) },
    { name: 'answers lost', durationMs: [1_000, 6_000], begin: () => link.loseAnswers() },
    { name: 'torn message', durationMs: [300, 1_000], begin: (trial) => link.tear(trial.random.next()) },
    { name: 'delivered again', durationMs: [500, 1_500], begin: (trial) => trial.log(`${link.deliverAgain()} bytes`) },
  ];
}

function packetFaults(filter: PacketFilter): NetworkFault[] {
  return [
    { name: '30 % of packets lost', durationMs: [3_000, 6_000], begin: () => filter.lose(30) },
    { name: 'all packets lost', durationMs: [1_000, 8_000], begin: () => filter.loseAll() },
    { name: 'packets above 16 kB/s lost', durationMs: [2_000, 5_000], begin: () => filter.police(16) },
  ];
}

export const network: Scenario = {
  name: 'network',
  about: 'the link between gateway and hub is cut, half-open, slow, lossy; answers are lost, messages torn or delivered again',
  needs: [],
  wantsNamespace: true,
  announcedLoss: false,
  isCounted: true,
  control: null,
  async run(trial) {
    const system = await trial.start();
    const { link } = system;
    const filter = isInOwnNamespace() ? new PacketFilter(link.port) : null;
    if (filter === null) trial.log('no loss of real packets: that needs root and nftables');
    const rounds = new Rounds([...linkFaults(link), ...(filter === null ? [] : packetFaults(filter))], trial.random);
    await trial.pause(1_000);
    while (trial.goesOn) {
      const { name, durationMs, begin } = rounds.next();
      trial.fault(name);
      begin(trial);
      await trial.pause(...durationMs);
      // What hung must also be told: a middle box that comes back has forgotten its connections.
      if (name === 'answers lost') link.cut();
      filter?.clear();
      link.heal();
      await trial.pause(0, 1_500);
    }
    await trial.settle(system);
  },
};
