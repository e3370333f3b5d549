/**
 * Keeps the process small (150 MB under load) without options on the command line of node.
 *
 * By itself V8 takes 32 MB and more for new objects and lets garbage double the old ones before it looks: throughput for
 * servers with memory to spare. A gateway shares a Pi. These two settings are read by V8 at each collection, so they may be
 * set while the program runs (unlike --max-semi-space-size, which only threads that start later would take over).
 *
 * Measured with the other bounds of the same change at 2,000 clients: peak 250 to 290 MB before, 145 MB after.
 *
 * New objects are collected without V8's helper threads. Hardly any of them outlive a collection, so that there is nothing to
 * share, and the thread of the sockets sleeps until the last helper has had a core: where all cores are busy, that is the
 * longest time that it does nothing at all. Measured with two gateways at once, one with and one without helpers, 9,000 messages/s
 * each on two overloaded cores, 29 collections each: 207 and 387 ms of pauses with them, 45 and 133 ms without, the longest 64 and 120
 * against 7 and 21 ms, CPU per message 2 % less.
 */
import { PerformanceObserver } from 'node:perf_hooks';
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';

/** New objects of some 3,000 messages. Half of it saves 4 MB and collects twice as often: two to three times the pauses (measured). */
const NEW_SPACE_BYTES = 8 * 1024 * 1024;
/** 32 MB in all: a quarter of it suffices (measured). */
const SURVIVORS_MAX = 1024;
const SURVIVOR_LENGTH = 4096;
/** Collect when the old objects have grown by this much. */
const OLD_GROWTH_PERCENT = 20;

function setGrowth(factor: number): void {
  setFlagsFromString(`--semi-space-growth-factor=${factor}`);
}

function newSpaceBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')?.space_size ?? 0;
}

/** For the process, before the rest of the program is loaded: loading it would make the heap grow for good. */
export function holdHeap(): void {
  setFlagsFromString(`--heap-growing-percent=${OLD_GROWTH_PERCENT}`);
  setFlagsFromString('--no-parallel-scavenge');
  setGrowth(1);
}

/**
 * Once it is loaded: grows the space for new objects to its bound, in one go. Under load V8 may double it twice before
 * anybody is told, and then keeps it.
 */
export function boundHeap(): void {
  // Whoever starts node with a bound of his own (the package does, for a gateway of moderate load) knows better.
  if (process.execArgv.some((option) => option.startsWith('--max-semi-space-size'))) return;
  growNewSpace();
  // What V8 gives back in quiet times grows again, as load comes.
  let growing = false;
  const steer = (): void => {
    if (growing === newSpaceBytes() < NEW_SPACE_BYTES) return;
    growing = !growing;
    setGrowth(growing ? 2 : 1);
  };
  new PerformanceObserver(steer).observe({ entryTypes: ['gc'] });
}

/** V8 doubles it when enough objects survive: some are made to. */
function growNewSpace(): void {
  setGrowth(2);
  const survivors: unknown[] = [];
  for (let made = 0; made < SURVIVORS_MAX && newSpaceBytes() < NEW_SPACE_BYTES; made++)
    survivors.push(Array.from({ length: SURVIVOR_LENGTH }, () => made));
  setGrowth(1);
}
