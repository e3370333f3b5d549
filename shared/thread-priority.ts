/**
 * How eagerly the kernel gives a thread a core, so that the threads that answer somebody go before those that have time.
 *
 * Linux schedules threads, not processes, and `nice` is a thread's own: five steps are about a third of the share where
 * both want the same core, and nothing where a core is free. Threads that the calling one starts later have its priority.
 * Elsewhere setpriority is about the whole process, so nothing is done.
 */
import { readlinkSync } from 'node:fs';
import os from 'node:os';
import type { Logger } from './logging.ts';

const NICE_MAX = 19;

/**
 * Lowers the priority of the calling thread, from what it has. It does not throw: a thread that stays as it is works as well.
 *
 * @param steps of `nice`, above 0: the other direction is the kernel's privilege to grant
 */
export function lowerThreadPriority(steps: number, logger: Pick<Logger, 'debug'>): void {
  try {
    const threadId = Number(/\/task\/(\d+)$/.exec(readlinkSync('/proc/thread-self'))?.[1]);
    os.setPriority(threadId, Math.min(NICE_MAX, os.getPriority(threadId) + steps));
  } catch (error) {
    logger.debug({ err: error, steps }, 'the priority of this thread stays as it is: no /proc/thread-self, or not allowed');
  }
}
