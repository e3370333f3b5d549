/** What tests and benchmarks of whole processes share. */
import { createServer } from 'node:net';

/** Of an even number the mean of the two in the middle. NaN: of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
}

/** Below Linux's range for outgoing connections (32768 …): one of those cannot take the port before a server has it. */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;
const PORT_TRIES_MAX = 200;

/** A loopback port that nobody listens on. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < PORT_TRIES_MAX; tries++) {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)); // taken
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
  throw new Error(`no free port found between ${PORT_MIN} and ${PORT_MAX} in ${PORT_TRIES_MAX} tries`);
}

/** Waits up to 20 s for a server to answer. */
export async function waitReady(url: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      if ((await fetch(url)).ok) return;
    } catch (error) {
      if (attempt > 400) throw error; // until then: not listening yet
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
