/** I/O errors by strace's fault injection: chosen system calls of a running program fail with EIO until they are told not to. */
import { spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

const ATTACH_TIMEOUT_MS = 10_000;

export class FailingCalls {
  readonly #strace: ChildProcess;

  private constructor(strace: ChildProcess) {
    this.#strace = strace;
  }

  /**
   * Attaches to all threads of the process.
   *
   * @param calls names of system calls
   * @param every each so many-th of them fails; 1: all
   */
  static async of(pid: number, calls: readonly string[], every: number): Promise<FailingCalls> {
    const names = calls.join(',');
    const strace = spawn('strace', ['-f', '-p', String(pid), '-e', `trace=${names}`, '-e', `inject=${names}:error=EIO:when=1+${every}`], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    strace.stderr.on('data', (chunk: Buffer) => {
      if (said.length < 10_000) said += chunk.toString();
    });
    const endMs = performance.now() + ATTACH_TIMEOUT_MS;
    while (!said.includes('attached')) {
      if (strace.exitCode !== null || performance.now() > endMs) {
        strace.kill('SIGKILL');
        throw new Error(`strace cannot attach to ${pid}: ${said}`);
      }
      await sleep(20);
    }
    return new FailingCalls(strace);
  }

  /** Detaches: the program goes on as if nothing had been. */
  async stop(): Promise<void> {
    const { exitCode, signalCode } = this.#strace;
    if (exitCode !== null || signalCode !== null) return;
    const ended = new Promise((resolve) => this.#strace.once('exit', resolve));
    this.#strace.kill('SIGINT');
    await ended;
  }
}
