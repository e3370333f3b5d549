/**
 * Packages of npm for another machine than this one, unpacked into a cache.
 *
 * Layout: `<cache>/<name>-<version>/` has the unpacked package; a directory is there whole or not at all (it is unpacked
 * beside its place and renamed). A crash leaves a directory `*.part-*` that nothing looks at.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { SluiceError } from '../errors.ts';
import { runTool } from './tools.ts';

export interface NpmPackage {
  readonly name: string;
  readonly version: string;
  /** As package-lock.json has it: `sha512-…`. */
  readonly integrity: string;
}

/**
 * The directory of the unpacked package; fetched on first use with the npm client.
 *
 * @throws SluiceError ERR_PACKAGE_BUILD when it cannot be fetched or is not what the checksum says
 */
export async function npmPackage({ name, version, integrity }: NpmPackage, cacheDir: string): Promise<string> {
  const directory = path.join(cacheDir, `${name.replace(/^@/, '').replaceAll('/', '-')}-${version}`);
  if (existsSync(directory)) return directory;
  mkdirSync(cacheDir, { recursive: true });
  const part = mkdtempSync(`${directory}.part-`);
  try {
    const packed = await runTool('npm', ['pack', `${name}@${version}`, '--silent', '--pack-destination', part]);
    const archive = path.join(part, packed.trim().split('\n').at(-1) ?? '');
    const found = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`;
    if (found !== integrity)
      throw new SluiceError('ERR_PACKAGE_BUILD', `${name}@${version} has the checksum ${found}, expected ${integrity}`);
    await runTool('tar', ['-xzf', archive, '-C', part, '--no-same-owner']);
    renameSync(path.join(part, 'package'), directory);
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
  return directory;
}

/**
 * Version and checksum of an optional package of another platform, as package-lock.json pins them.
 *
 * @throws SluiceError ERR_PACKAGE_BUILD
 */
export function lockedPackage(root: string, name: string): NpmPackage {
  const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version?: string; integrity?: string } | undefined>;
  };
  const { version, integrity } = lock.packages[`node_modules/${name}`] ?? {};
  if (version === undefined || integrity === undefined)
    throw new SluiceError('ERR_PACKAGE_BUILD', `package-lock.json does not pin ${name} with a checksum`);
  return { name, version, integrity };
}
