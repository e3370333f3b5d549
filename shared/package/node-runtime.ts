/** The Node that packages bring along: npm's build of it, without its symbol table. */
import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import path from 'node:path';
import { npmPackage } from './npm-package.ts';
import { NODE_VERSION, toolFor, type PackageTarget } from './target.ts';
import { runTool } from './tools.ts';

export interface NodeRuntime {
  /** The stripped program. */
  readonly program: string;
  /** Has `include/node`: what node-gyp calls nodedir. */
  readonly directory: string;
  readonly license: string;
}

/** @throws SluiceError ERR_PACKAGE_BUILD */
export async function nodeRuntime(target: PackageTarget, cacheDir: string): Promise<NodeRuntime> {
  const directory = await npmPackage({ name: target.nodePackage, version: NODE_VERSION, integrity: target.nodeIntegrity }, cacheDir);
  const program = path.join(cacheDir, `stripped-${NODE_VERSION}-${target.architecture}`, 'node');
  if (!existsSync(program)) {
    mkdirSync(path.dirname(program), { recursive: true });
    const part = `${program}.part-${process.pid}`;
    copyFileSync(path.join(directory, 'bin/node'), part);
    // What add-ons link against is in the dynamic table, which stays.
    await runTool(toolFor(target, 'strip'), ['--strip-unneeded', part]);
    chmodSync(part, 0o755);
    renameSync(part, program);
  }
  return { program, directory, license: path.join(directory, 'LICENSE') };
}
