/**
 * A program in few files: esbuild puts each entry with everything that it imports into one ES module.
 *
 * Workers are entries of their own and lie beside the main file, where worker-url.ts looks for them. Native add-ons are
 * copied beside the bundle and loaded from there: what packages do to find them at run time (`bindings`, platform
 * packages) is replaced while bundling.
 */
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { build, type Plugin } from 'esbuild';

export interface BundleOptions {
  readonly root: string;
  /** File name of the bundle without extension → entry, relative to `root`. */
  readonly entries: Readonly<Record<string, string>>;
  readonly outDir: string;
  /** Import → the module that stands for it. */
  readonly replaced: Readonly<Record<string, Replacement>>;
  /** Never reached with the package's own Node: left out. */
  readonly external: readonly string[];
}

export interface Replacement {
  /** CommonJS. */
  readonly code: string;
  /** Where its own imports are looked for, relative to `root`. */
  readonly resolveDir: string;
}

export interface Bundle {
  readonly bytes: number;
  /** Name → text of its licence, of everything that is inside, sorted by name. */
  readonly licenses: readonly { readonly name: string; readonly version: string; readonly license: string; readonly text: string }[];
}

/** CommonJS inside an ES module asks for these. */
const BANNER = [
  "import { createRequire as __createRequire } from 'node:module';",
  "import { fileURLToPath as __fileURLToPath } from 'node:url';",
  'const require = __createRequire(import.meta.url);',
  'const __filename = __fileURLToPath(import.meta.url);',
  "const __dirname = __fileURLToPath(new URL('.', import.meta.url));",
].join('\n');

function replacing(root: string, replaced: BundleOptions['replaced']): Plugin {
  const names = Object.keys(replaced).map((name) => name.replaceAll(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`));
  return {
    name: 'replaced',
    setup(setup) {
      if (names.length === 0) return;
      setup.onResolve({ filter: new RegExp(`^(?:${names.join('|')})$`) }, ({ path: name }) => ({ path: name, namespace: 'replaced' }));
      setup.onLoad({ filter: /./, namespace: 'replaced' }, ({ path: name }) => {
        const { code, resolveDir } = replaced[name];
        return { contents: code, loader: 'js', resolveDir: path.join(root, resolveDir) };
      });
    },
  };
}

export async function bundle({ root, entries, outDir, replaced, external }: BundleOptions): Promise<Bundle> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: Object.fromEntries(Object.entries(entries).map(([name, entry]) => [name, path.join(root, entry)])),
    outdir: outDir,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    minifySyntax: true,
    minifyWhitespace: true,
    // Names stay: a stack trace from the field has to say something.
    keepNames: false,
    legalComments: 'none',
    banner: { js: BANNER },
    external: [...external],
    plugins: [replacing(root, replaced)],
    metafile: true,
    logLevel: 'warning',
  });
  for (const file of Object.keys(metafile.outputs)) dropHashbang(path.join(root, file));
  const packages = new Set(
    Object.values(metafile.outputs).flatMap((output) =>
      Object.entries(output.inputs)
        .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
        .flatMap(([file]) => packageDirectory(file) ?? []),
    ),
  );
  return {
    bytes: Object.values(metafile.outputs).reduce((sum, { bytes }) => sum + bytes, 0),
    licenses: [...packages].sort().map((directory) => packageLicense(path.join(root, directory))),
  };
}

/** The package's own Node runs it, not whichever comes first in somebody's path. */
function dropHashbang(file: string): void {
  const text = readFileSync(file, 'utf8');
  if (text.startsWith('#!')) writeFileSync(file, text.slice(text.indexOf('\n') + 1));
}

function packageDirectory(file: string): string | null {
  return /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? null;
}

/** What a package says of its licence: the text in its own file, or the name alone where it brings none. */
export function packageLicense(directory: string): Bundle['licenses'][number] {
  const file = path.join(directory, 'package.json');
  const { name, version, license } = JSON.parse(readFileSync(file, 'utf8')) as { name: string; version: string; license?: string };
  const texts = existsSync(directory) ? readdirSync(directory).filter((entry) => /^(licen[cs]e|copying)(\.|$|-)/i.test(entry)) : [];
  const text = texts.sort().map((entry) => readFileSync(path.join(directory, entry), 'utf8').trim());
  return { name, version, license: license ?? 'see its text', text: text.join('\n\n') };
}
