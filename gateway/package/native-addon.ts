/**
 * better-sqlite3 compiled for the package's Node and processor, with what npm's build lacks.
 *
 * HAVE_FDATASYNC: without it each commit also commits the journal of the file system, 28.7 kB to the device instead of 4.8
 * (ARCHITECTURE.md, flash). Compiled in a copy, so that the checkout's own build stays what the tests run with; about a
 * minute and a half of CPU, so the result is kept by everything that it depends on.
 *
 * Node's own header of wrapped objects: from 24.19 on its destructor takes an environment's hook away, which aborts the
 * process when the collector runs while no context is entered, as it does for statements (WiseLibs/better-sqlite3 issue
 * 1515). The header is inlined into the add-on, so it is compiled without the hook, as every Node before did;
 * better-sqlite3 closes its databases at the end of a thread by a hook of its own.
 */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { SluiceError } from '../../shared/errors.ts';
import type { NodeRuntime } from '../../shared/package/node-runtime.ts';
import { NODE_VERSION, toolFor, type PackageTarget } from '../../shared/package/target.ts';
import { runTool } from '../../shared/package/tools.ts';

const C_FLAGS = '-DHAVE_FDATASYNC=1';
const OBJECT_WRAP = 'include/node/node_object_wrap.h';

/** The path of `better_sqlite3.node`. @throws SluiceError ERR_PACKAGE_BUILD */
export async function sqliteAddon(root: string, target: PackageTarget, runtime: NodeRuntime, cacheDir: string): Promise<string> {
  const source = path.join(root, 'node_modules/better-sqlite3');
  const { version } = JSON.parse(readFileSync(path.join(source, 'package.json'), 'utf8')) as { version: string };
  const compiler = toolFor(target, 'gcc');
  const compilerVersion = (await runTool(compiler, ['-dumpfullversion'])).trim();
  const objectWrap = withoutHooks(readFileSync(path.join(runtime.directory, OBJECT_WRAP), 'utf8'));
  const key = createHash('sha256')
    .update(JSON.stringify([version, NODE_VERSION, target.architecture, C_FLAGS, compilerVersion, objectWrap]))
    .digest('hex')
    .slice(0, 16);
  const addon = path.join(cacheDir, `better-sqlite3-${version}-${target.architecture}-${key}`, 'better_sqlite3.node');
  if (existsSync(addon)) return addon;
  const work = path.join(cacheDir, `compile-better-sqlite3-${target.architecture}-${process.pid}`);
  try {
    cpSync(source, work, { recursive: true, filter: (file) => path.relative(source, file).split(path.sep)[0] !== 'build' });
    const nodeDir = path.join(work, 'node');
    cpSync(path.join(runtime.directory, 'include'), path.join(nodeDir, 'include'), { recursive: true });
    writeFileSync(path.join(nodeDir, OBJECT_WRAP), objectWrap);
    await runTool(
      process.execPath,
      [
        nodeGyp(),
        'rebuild',
        '--release',
        `--arch=${target.cpu}`,
        `--target=${NODE_VERSION}`,
        `--nodedir=${nodeDir}`,
        `--jobs=${availableParallelism()}`,
      ],
      {
        cwd: work,
        env: {
          ...process.env,
          CC: compiler,
          CXX: toolFor(target, 'g++'),
          AR: toolFor(target, 'ar'),
          LINK: toolFor(target, 'g++'),
          CFLAGS: C_FLAGS,
          npm_config_nodedir: nodeDir,
        },
      },
    );
    const built = path.join(work, 'build/Release/better_sqlite3.node');
    await runTool(toolFor(target, 'strip'), ['--strip-unneeded', built]);
    mkdirSync(path.dirname(addon), { recursive: true });
    renameSync(built, addon);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return addon;
}

function withoutHooks(header: string): string {
  const changed = header.replace('    AddCleanupHook();\n', '').replace('    RemoveCleanupHook();\n', '');
  if (header.length - changed.length !== '    AddCleanupHook();\n    RemoveCleanupHook();\n'.length)
    throw new SluiceError(
      'ERR_PACKAGE_BUILD',
      `${OBJECT_WRAP} of Node ${NODE_VERSION} is not the one that is known: look whether it still aborts`,
    );
  return changed;
}

/** The one inside npm: it is there wherever npm is. */
function nodeGyp(): string {
  const npm = process.env['npm_execpath'];
  const roots = [
    ...(npm === undefined ? [] : [path.resolve(path.dirname(npm), '..')]),
    path.resolve(path.dirname(process.execPath), '../lib/node_modules/npm'),
    '/usr/share/nodejs/npm',
    '/usr/lib/node_modules/npm',
  ];
  const found = roots.map((npmRoot) => path.join(npmRoot, 'node_modules/node-gyp/bin/node-gyp.js')).find((file) => existsSync(file));
  if (found === undefined)
    throw new SluiceError('ERR_PACKAGE_BUILD', 'node-gyp was not found inside npm; run this through npm: npm run package:gateway');
  return found;
}
