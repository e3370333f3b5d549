/** A program of ours as a Debian package: Node, the bundled program, its native parts, unit, configuration, documents. */
import { copyFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { Command } from '../cli.ts';
import { VERSION } from '../version.ts';
import { bundle, type Bundle, type Replacement } from './bundle.ts';
import { debDocuments, type DebDocuments } from './deb-documents.ts';
import { buildDeb, type BuiltDeb, type DebFile } from './deb.ts';
import { nodeRuntime, type NodeRuntime } from './node-runtime.ts';
import { libraryDependencies } from './shared-libraries.ts';
import { sourceDate } from './source-date.ts';
import { NODE_VERSION, packageTarget, type PackageTarget } from './target.ts';
import { repositoryRoot } from './tools.ts';

export interface BuildContext {
  readonly root: string;
  readonly cacheDir: string;
  readonly target: PackageTarget;
  readonly runtime: NodeRuntime;
}

export interface ProgramPackage {
  /** `sluice-gateway`: of package, command, user and service. */
  readonly name: string;
  /** Folder of the program in the checkout; `<component>/package/debian` has the unit and the configuration. */
  readonly component: 'gateway' | 'hub';
  readonly stateDir: string;
  /** File name in the bundle → entry. `main` is the program. */
  readonly entries: Readonly<Record<string, string>>;
  readonly replaced: Readonly<Record<string, Replacement>>;
  readonly external: readonly string[];
  /** Files that lie beside the bundle; those that are programs or libraries say what of the system they need. */
  readonly nativeFiles: (context: BuildContext) => Promise<readonly string[]>;
  readonly nativeLicenses: (context: BuildContext) => Promise<Bundle['licenses']>;
  readonly extraFiles: (context: BuildContext) => readonly DebFile[];
  readonly unit: (template: string) => string;
  readonly summary: string;
  readonly description: readonly string[];
  readonly manual: DebDocuments['manual'];
}

interface Options {
  readonly target: PackageTarget;
  /** Tells builds of one version apart. */
  readonly revision: string;
  readonly compression: 'xz' | 'zstd';
}

/** The command line of a package build. */
export function packageCommand(spec: ProgramPackage): Command {
  const program = new Command(`package-${spec.component}`)
    .option('--arch <architecture>', "amd64 or arm64 (default: this machine's)")
    .option('--revision <number>', 'Debian revision', '1')
    .option('--fast', 'larger and sooner: zstd instead of xz');
  program.action(async ({ arch, revision, fast }: { arch?: string; revision: string; fast?: true }) => {
    const deb = await buildProgram(spec, { target: packageTarget(arch ?? null), revision, compression: fast === true ? 'zstd' : 'xz' });
    process.stdout.write(`${deb.file}\n`);
    process.stdout.write(`package ${(deb.bytes / 1e6).toFixed(1)} MB, installed ${(deb.installedBytes / 1e6).toFixed(1)} MB\n`);
  });
  return program;
}

/** @throws SluiceError ERR_PACKAGE_BUILD */
async function buildProgram(spec: ProgramPackage, { target, revision, compression }: Options): Promise<BuiltDeb> {
  const root = repositoryRoot();
  const cacheDir = path.join(root, 'build/cache');
  const context: BuildContext = { root, cacheDir, target, runtime: await nodeRuntime(target, cacheDir) };
  const nativeFiles = await spec.nativeFiles(context);
  const appDir = path.join(root, 'build', `${spec.component}-${target.architecture}`);
  rmSync(appDir, { recursive: true, force: true });
  mkdirSync(appDir, { recursive: true });
  const { entries, replaced, external } = spec;
  const app = await bundle({ root, entries, outDir: appDir, replaced, external });
  for (const file of nativeFiles) copyFileSync(file, path.join(appDir, path.basename(file)));
  const version = `${VERSION}-${revision}`;
  const scripts = ['postinst', 'prerm', 'postrm'];
  return buildDeb(
    {
      name: spec.name,
      version,
      architecture: target.architecture,
      depends: [
        ...(await libraryDependencies(target, [context.runtime.program, ...nativeFiles])),
        'adduser',
        'init-system-helpers (>= 1.54)',
      ],
      summary: spec.summary,
      description: spec.description,
      files: await packageFiles(spec, context, { appDir, app, nativeFiles, version }),
      conffiles: [configFile(spec)],
      scripts: Object.fromEntries(scripts.map((name) => [name, filled(spec, sharedFile(root, name))])),
      dateSeconds: await sourceDate(root),
      compression,
    },
    path.join(root, 'build/packages'),
  );
}

interface Parts {
  readonly appDir: string;
  readonly app: Bundle;
  readonly nativeFiles: readonly string[];
  readonly version: string;
}

async function packageFiles(spec: ProgramPackage, context: BuildContext, { appDir, app, nativeFiles, version }: Parts): Promise<DebFile[]> {
  const { name } = spec;
  const { root, runtime } = context;
  const lib = `/usr/lib/${name}`;
  const ownFile = (file: string): string => readFileSync(path.join(root, spec.component, 'package/debian', file), 'utf8');
  const inside = [...Object.keys(spec.entries).map((entry) => `${entry}.js`), ...nativeFiles.map((file) => path.basename(file))];
  const manifest = `${JSON.stringify({ name: 'sluice', version: VERSION, type: 'module' })}\n`;
  return [
    // Its own name in top and ps.
    { target: `${lib}/${name}-node`, mode: 0o755, file: runtime.program },
    { target: `${lib}/package.json`, mode: 0o644, content: manifest },
    ...inside.map((file): DebFile => ({ target: `${lib}/app/${file}`, mode: 0o644, file: path.join(appDir, file) })),
    { target: `/usr/bin/${name}`, mode: 0o755, content: filled(spec, sharedFile(root, 'wrapper.sh')) },
    { target: configFile(spec), mode: 0o644, content: ownFile(`${spec.component}.yaml`) },
    { target: `/usr/lib/systemd/system/${name}.service`, mode: 0o644, content: spec.unit(ownFile(`${name}.service`)) },
    {
      target: `/usr/share/doc/${name}/configuration.md.gz`,
      mode: 0o644,
      content: gzipSync(readFileSync(path.join(root, 'docs/configuration.md')), { level: 9 }),
    },
    { target: `/usr/share/lintian/overrides/${name}`, mode: 0o644, content: filled(spec, sharedFile(root, 'lintian-overrides')) },
    ...spec.extraFiles(context),
    ...debDocuments({
      root,
      name,
      version,
      dateSeconds: await sourceDate(root),
      licenses: [
        { name: 'Node.js', version: NODE_VERSION, license: 'MIT and others', text: readFileSync(runtime.license, 'utf8') },
        ...(await spec.nativeLicenses(context)),
        ...app.licenses,
      ],
      manual: spec.manual,
    }),
  ];
}

function configFile({ component }: ProgramPackage): string {
  return `/etc/sluice/${component}.yaml`;
}

function sharedFile(root: string, name: string): string {
  return readFileSync(path.join(root, 'shared/package/debian', name), 'utf8');
}

function filled(spec: ProgramPackage, template: string): string {
  return template
    .replaceAll('@NAME@', spec.name)
    .replaceAll('@STATE_DIR@', spec.stateDir)
    .replaceAll('@CONFIG_ENV@', `SLUICE_${spec.component.toUpperCase()}_CONFIG`)
    .replaceAll('@CONFIG_FILE@', configFile(spec));
}
