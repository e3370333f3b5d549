import type { Scenario } from '../scenario.ts';
import { kill } from './kill.ts';

/** In the order in which `npm run faults` runs them. */
export const SCENARIOS: readonly Scenario[] = [kill];
