/**
 * Loss of real packets, by nftables, in a network namespace of the lab's own: on the host's own loopback it would hurt
 * everybody. netem is not asked for: many kernels come without it.
 */
import { execFileSync } from 'node:child_process';

/** Set by main.ts for the process that it starts in a namespace of its own. */
export const NAMESPACE_ENV = 'SLUICE_FAULTS_NAMESPACE';

export function isInOwnNamespace(): boolean {
  return process.env[NAMESPACE_ENV] === '1';
}

function nft(script: string): void {
  execFileSync('nft', ['-f', '-'], { input: script, stdio: ['pipe', 'ignore', 'pipe'] });
}

export class PacketFilter {
  readonly #port: number;

  /** @param port packets of TCP connections to it, both directions */
  constructor(port: number) {
    if (!isInOwnNamespace()) throw new Error('not in a network namespace of our own');
    this.#port = port;
    nft('add table inet lab\nadd chain inet lab input { type filter hook input priority 0; }');
  }

  #drop(condition: string): void {
    nft(['dport', 'sport'].map((direction) => `add rule inet lab input tcp ${direction} ${this.#port} ${condition} drop`).join('\n'));
  }

  lose(percent: number): void {
    this.#drop(`numgen random mod 100 < ${percent}`);
  }

  /** Packets vanish without a FIN or RST, in both directions. */
  loseAll(): void {
    this.#drop('');
  }

  /** Packets beyond the rate vanish: what a policed mobile link does. */
  police(kilobytesPerSecond: number): void {
    this.#drop(`limit rate over ${kilobytesPerSecond} kbytes/second burst 80 kbytes`);
  }

  clear(): void {
    nft('flush chain inet lab input');
  }
}
