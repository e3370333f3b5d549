/** What of the system the programs of a package need, read from their dynamic symbol tables. */
import path from 'node:path';
import { SluiceError } from '../errors.ts';
import { toolFor, type PackageTarget } from './target.ts';
import { runTool } from './tools.ts';

/** First version of Debian's libstdc++6 with each generation of symbols (GCC's ABI policy and guidelines). */
const LIBSTDCXX_OF: readonly (readonly [symbols: string, version: string])[] = [
  ['3.4.21', '5.2'],
  ['3.4.22', '6'],
  ['3.4.24', '7'],
  ['3.4.25', '8'],
  ['3.4.28', '9'],
  ['3.4.29', '11'],
  ['3.4.30', '12'],
  ['3.4.32', '13.1'],
  ['3.4.33', '14'],
];

/** Debian's package of each library that may be needed besides libc and libstdc++. */
const PACKAGE_OF: Readonly<Record<string, string>> = { 'libgcc_s.so.1': 'libgcc-s1', 'libatomic.so.1': 'libatomic1' };
const OF_LIBC = /^(?:libc|libm|libdl|libpthread|librt|ld-linux.*)\.so\.\d+$/;

export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number));
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The highest version with the prefix that the output of `objdump -T` mentions; null if none. */
export function highestVersion(objdump: string, prefix: 'GLIBC' | 'GLIBCXX'): string | null {
  const found = [...objdump.matchAll(new RegExp(`\\b${prefix}_([0-9]+(?:\\.[0-9]+)*)`, 'g'))].map((match) => match[1]);
  return found.sort(compareVersions).at(-1) ?? null;
}

/**
 * The field Depends for these files: `libc6 (>= 2.34), libgcc-s1, libstdc++6 (>= 5.2)`.
 *
 * @throws SluiceError ERR_PACKAGE_BUILD when a library or version is not known here
 */
export async function libraryDependencies(target: PackageTarget, files: readonly string[]): Promise<string[]> {
  const tool = toolFor(target, 'objdump');
  const text = (await Promise.all(files.map((file) => runTool(tool, ['-T', '-p', file])))).join('\n');
  const inside = new Set(files.map((file) => path.basename(file)));
  const dependencies = new Set<string>();
  for (const [, library] of text.matchAll(/^\s+NEEDED\s+(\S+)$/gm)) {
    if (OF_LIBC.test(library) || inside.has(library)) continue;
    if (library === 'libstdc++.so.6') {
      const symbols = highestVersion(text, 'GLIBCXX') ?? '3.4.21';
      const version = LIBSTDCXX_OF.find(([known]) => compareVersions(known, symbols) >= 0)?.[1];
      if (version === undefined)
        throw new SluiceError('ERR_PACKAGE_BUILD', `GLIBCXX_${symbols} is newer than the table of libstdc++6 knows`);
      dependencies.add(`libstdc++6 (>= ${version})`);
      continue;
    }
    const name = PACKAGE_OF[library];
    if (name === undefined) throw new SluiceError('ERR_PACKAGE_BUILD', `no Debian package is known for ${library}`);
    dependencies.add(name);
  }
  const glibc = highestVersion(text, 'GLIBC');
  if (glibc === null) throw new SluiceError('ERR_PACKAGE_BUILD', `${files.join(', ')}: no symbol of glibc is used, which cannot be`);
  return [`libc6 (>= ${glibc})`, ...[...dependencies].sort()];
}
