/** Running the programs that packages are made with. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SluiceError, errorMessage } from '../errors.ts';

/** Debian's package of each tool, for the message when it is missing. */
const PROVIDED_BY: Readonly<Record<string, string>> = {
  'dpkg-deb': 'dpkg',
  strip: 'binutils',
  objdump: 'binutils',
  gcc: 'g++',
  'aarch64-linux-gnu-strip': 'binutils-aarch64-linux-gnu',
  'aarch64-linux-gnu-objdump': 'binutils-aarch64-linux-gnu',
  'aarch64-linux-gnu-gcc': 'g++-aarch64-linux-gnu',
  'x86_64-linux-gnu-gcc': 'g++-x86-64-linux-gnu',
};

const OUTPUT_CHARS_MAX = 16 * 1024 * 1024;
const SHOWN_CHARS_MAX = 4_000;

export interface ToolOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * What the program wrote to standard output, once it has ended well.
 *
 * @throws SluiceError ERR_PACKAGE_BUILD with the end of what it wrote, or with the Debian package that is missing
 */
export function runTool(command: string, args: readonly string[], options: ToolOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (output.length < OUTPUT_CHARS_MAX) output += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-SHOWN_CHARS_MAX);
    });
    child.once('error', (cause: NodeJS.ErrnoException) => {
      const packageName = PROVIDED_BY[command];
      const advice = cause.code === 'ENOENT' && packageName !== undefined ? `; apt-get install ${packageName}` : '';
      reject(new SluiceError('ERR_PACKAGE_BUILD', `${command} cannot be run: ${errorMessage(cause)}${advice}`, { cause }));
    });
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output);
      else
        reject(
          new SluiceError(
            'ERR_PACKAGE_BUILD',
            `${command} ${args.slice(0, 4).join(' ')} ended with ${signal ?? code}:\n${errors === '' ? output.slice(-SHOWN_CHARS_MAX) : errors}`,
          ),
        );
    });
  });
}

/** The checkout that this program was built from: source files of packages are read from there. */
export function repositoryRoot(): string {
  let directory = path.dirname(fileURLToPath(import.meta.url));
  for (let up = 0; up < 5; up++) {
    const file = path.join(directory, 'package.json');
    if (existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: string }).name === 'sluice') return directory;
    directory = path.dirname(directory);
  }
  throw new SluiceError('ERR_PACKAGE_BUILD', 'packages are built from a checkout of the source, and there is none above this program');
}
