import { pino } from 'pino';
import { expect, test } from 'vitest';
import { ManualClock } from './clock.ts';
import { ServiceManager, watchdogIntervalMs } from './service-manager.ts';

const logger = pino({ level: 'silent' });
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Bench {
  readonly clock: ManualClock;
  readonly messages: string[];
  readonly manager: ServiceManager;
}

function bench(
  askHeart: () => Promise<unknown>,
  env: Record<string, string> = { NOTIFY_SOCKET: '/run/x', WATCHDOG_USEC: '60000000' },
): Bench {
  const clock = new ManualClock(0);
  const messages: string[] = [];
  const manager = new ServiceManager({
    env,
    pid: 7,
    clock,
    logger,
    askHeart,
    notify: (message) => {
      messages.push(message.join(' '));
      return Promise.resolve();
    },
  });
  return { clock, messages, manager };
}

async function seconds(clock: ManualClock, count: number): Promise<void> {
  for (let second = 0; second < count; second++) {
    clock.advance(1_000_000);
    await settled();
  }
}

test('the service manager hears ready, a sign of life three times per watchdog period, and stopping', async () => {
  const { clock, messages, manager } = bench(() => Promise.resolve());
  manager.ready('takes readings');
  await seconds(clock, 60);
  expect(messages).toEqual(['--ready --status=takes readings', 'WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1']);
  manager.stopping();
  await seconds(clock, 60);
  expect(messages.slice(4)).toEqual(['STOPPING=1']);
});

test('a thread that does not answer is followed by silence, and by a sign of life once it does', async () => {
  let answer: (() => void) | null = null;
  let asked = 0;
  const { clock, messages, manager } = bench(() => {
    asked++;
    return new Promise<void>((resolve) => {
      answer = resolve;
    });
  });
  manager.ready('');
  await seconds(clock, 200);
  expect(messages).toHaveLength(1);
  expect(asked).toBe(1);
  (answer as (() => void) | null)?.();
  await settled();
  expect(messages.at(-1)).toBe('WATCHDOG=1');
});

test('a thread that answers with an error is alive: a restart would not mend its disk', async () => {
  const { clock, messages, manager } = bench(() => Promise.reject(new Error('disk full')));
  manager.ready('');
  await seconds(clock, 21);
  expect(messages.at(-1)).toBe('WATCHDOG=1');
});

test('without a service manager nothing is said', async () => {
  const { clock, messages, manager } = bench(() => Promise.resolve(), {});
  manager.ready('');
  await seconds(clock, 60);
  manager.stopping();
  expect(messages).toEqual([]);
});

test("the watchdog of another process is not this one's", () => {
  expect(watchdogIntervalMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '8' }, 7)).toBeNull();
  expect(watchdogIntervalMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 7)).toBe(10_000);
  expect(watchdogIntervalMs({ WATCHDOG_USEC: 'x' }, 7)).toBeNull();
});
