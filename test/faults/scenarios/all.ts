import type { Scenario } from '../scenario.ts';
import { alerts } from './alerts.ts';
import { backlog } from './backlog.ts';
import { buffer } from './buffer.ts';
import { clocks } from './clocks.ts';
import { damage } from './damage.ts';
import { disk } from './disk.ts';
import { kill } from './kill.ts';
import { network } from './network.ts';
import { poison } from './poison.ts';
import { powerCut } from './power-cut.ts';
import { sessions } from './sessions.ts';
import { storm } from './storm.ts';
import { upgrade } from './upgrade.ts';

/** In the order in which `npm run faults` runs them. */
export const SCENARIOS: readonly Scenario[] = [
  kill,
  sessions,
  alerts,
  powerCut,
  network,
  disk,
  damage,
  buffer,
  backlog,
  clocks,
  storm,
  poison,
  upgrade,
];
