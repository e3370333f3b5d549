/**
 * A Debian package from a list of files: staged, then packed by dpkg-deb.
 *
 * Constraints: the same source gives the same bytes: files in sorted order, owned by root, times at the last commit.
 * Written beside its place and renamed, so a package that is there is whole.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { runTool } from './tools.ts';

/** One entry of the package; `target` is absolute in the installed system. */
export type DebFile =
  | { readonly target: string; readonly mode: number; readonly content: string | Buffer }
  | { readonly target: string; readonly mode: number; readonly file: string }
  | { readonly target: string; readonly linkTo: string };

export interface DebSpec {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly depends: readonly string[];
  /** One line, then the paragraph; lines of at most 79 characters. */
  readonly summary: string;
  readonly description: readonly string[];
  readonly files: readonly DebFile[];
  /** Absolute paths among `files` that the administrator may edit. */
  readonly conffiles: readonly string[];
  /** preinst, postinst, prerm, postrm → text. */
  readonly scripts: Readonly<Record<string, string>>;
  /** Seconds since the epoch that all files are dated with. */
  readonly dateSeconds: number;
  readonly compression: 'xz' | 'zstd';
}

export interface BuiltDeb {
  readonly file: string;
  readonly bytes: number;
  /** Sum of the files that it installs. */
  readonly installedBytes: number;
}

const MAINTAINER = 'Sluice maintainers <maintainers@sluice.invalid>';

/** @throws SluiceError ERR_PACKAGE_BUILD */
export async function buildDeb(spec: DebSpec, outDir: string): Promise<BuiltDeb> {
  const file = path.join(outDir, `${spec.name}_${spec.version}_${spec.architecture}.deb`);
  const stage = `${file}.stage-${process.pid}`;
  const part = `${file}.part-${process.pid}`;
  mkdirSync(outDir, { recursive: true });
  try {
    const staged = stageFiles(spec, stage);
    stageControl(spec, stage, staged);
    setTimes(stage, spec.dateSeconds);
    await runTool(
      'dpkg-deb',
      [
        '--root-owner-group',
        '--uniform-compression',
        `-Z${spec.compression}`,
        ...(spec.compression === 'zstd' ? ['-z3'] : []),
        '--build',
        stage,
        part,
      ],
      {
        env: { ...process.env, SOURCE_DATE_EPOCH: String(spec.dateSeconds) },
      },
    );
    renameSync(part, file);
    return { file, bytes: statSync(file).size, installedBytes: staged.bytes };
  } finally {
    rmSync(stage, { recursive: true, force: true });
    rmSync(part, { force: true });
  }
}

interface Staged {
  readonly bytes: number;
  /** Line of DEBIAN/md5sums each. */
  readonly sums: readonly string[];
}

function stageFiles(spec: DebSpec, stage: string): Staged {
  let bytes = 0;
  const sums: string[] = [];
  for (const entry of [...spec.files].sort((a, b) => (a.target < b.target ? -1 : 1))) {
    const at = path.join(stage, entry.target);
    makeDirectories(stage, path.dirname(entry.target));
    if ('linkTo' in entry) {
      symlinkSync(entry.linkTo, at);
      continue;
    }
    if ('content' in entry) writeFileSync(at, entry.content);
    else copyFileSync(entry.file, at);
    chmodSync(at, entry.mode);
    const content = readFileSync(at);
    bytes += content.length;
    sums.push(`${createHash('md5').update(content).digest('hex')}  ${entry.target.slice(1)}`);
  }
  return { bytes, sums };
}

/** With the mode that directories of packages have, whatever the builder's umask is. */
function makeDirectories(stage: string, directory: string): void {
  let at = stage;
  for (const name of ['', ...directory.split('/').filter((part) => part !== '')]) {
    at = path.join(at, name);
    mkdirSync(at, { recursive: true });
    chmodSync(at, 0o755);
  }
}

function stageControl(spec: DebSpec, stage: string, staged: Staged): void {
  const lines = [
    `Package: ${spec.name}`,
    `Version: ${spec.version}`,
    `Architecture: ${spec.architecture}`,
    `Maintainer: ${MAINTAINER}`,
    `Installed-Size: ${Math.ceil(staged.bytes / 1024)}`,
    `Depends: ${spec.depends.join(', ')}`,
    'Section: net',
    'Priority: optional',
    `Description: ${spec.summary}`,
    ...spec.description.map((line) => (line === '' ? ' .' : ` ${line}`)),
  ];
  makeDirectories(stage, '/DEBIAN');
  const put = (name: string, text: string, mode: number): void => {
    writeFileSync(path.join(stage, 'DEBIAN', name), text);
    chmodSync(path.join(stage, 'DEBIAN', name), mode);
  };
  put('control', `${lines.join('\n')}\n`, 0o644);
  put('md5sums', `${staged.sums.join('\n')}\n`, 0o644);
  if (spec.conffiles.length > 0) put('conffiles', `${spec.conffiles.join('\n')}\n`, 0o644);
  for (const [name, text] of Object.entries(spec.scripts)) put(name, text, 0o755);
}

function setTimes(stage: string, dateSeconds: number): void {
  const visit = (at: string): void => {
    const stat = lstatSync(at);
    if (stat.isSymbolicLink()) lutimesSync(at, dateSeconds, dateSeconds);
    else {
      if (stat.isDirectory()) for (const name of readdirSync(at)) visit(path.join(at, name));
      utimesSync(at, dateSeconds, dateSeconds);
    }
  };
  visit(stage);
}
