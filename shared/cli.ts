/**
 * The frame of the three command lines: `--config FILE`, one flag per setting, `--help`, `--version`, exit codes.
 *
 * Exit 0: done. 1: an operating error, its message on standard error. 2: wrong usage or configuration.
 */
import { Command, CommanderError } from 'commander';
import type { z } from 'zod';
import { configLeaves, loadConfig, type ProgramName } from './config.ts';
import { SluiceError, errorMessage } from './errors.ts';
import { VERSION } from './version.ts';

export { Command } from 'commander';

export function createProgram(name: string, description: string): Command {
  return new Command(name).description(description).version(VERSION).showHelpAfterError('(add --help for the options)');
}

/** Adds `--config` and one flag per setting to the command; the answer reads them once the command is parsed. */
export function withConfig<S extends z.ZodType>(command: Command, program: ProgramName, schema: S): (env: NodeJS.ProcessEnv) => z.infer<S> {
  command.option('-c, --config <file>', `YAML configuration file (also SLUICE_${program.toUpperCase()}_CONFIG)`);
  const leaves = configLeaves(program, schema);
  for (const leaf of leaves) {
    const shown =
      leaf.default === undefined || leaf.default === null
        ? ''
        : ` (default: ${typeof leaf.default === 'object' ? 'see docs/configuration.md' : `${leaf.default as string | number | boolean}`})`;
    command.option(`${leaf.flag} <${leaf.type}>`, `${leaf.description}${shown}`);
  }
  return (env) => {
    const options = command.opts<Record<string, string | undefined>>();
    const flags = new Map<string, string>();
    for (const leaf of leaves) {
      const attribute = leaf.flag.slice(2).replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
      const value = options[attribute];
      if (value !== undefined) flags.set(leaf.key, value);
    }
    const configEnv = `SLUICE_${program.toUpperCase()}_CONFIG`;
    const { [configEnv]: fileFromEnv, ...others } = env;
    return loadConfig(program, schema, { file: options['config'] ?? fileFromEnv ?? null, env: others, flags });
  };
}

/** Parses argv, runs the command and turns errors into messages and exit codes. */
export async function runCli(program: Command, argv: readonly string[]): Promise<void> {
  const commands = [program];
  for (const command of commands) {
    // Wrong usage is thrown, not exited, at every level; addCommand does not hand this down.
    command.exitOverride();
    commands.push(...command.commands);
  }
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : 2; // commander has printed its message
      return;
    }
    process.stderr.write(
      `${program.name()}: ${error instanceof SluiceError ? `${error.message} [${error.code}]` : error instanceof Error ? (error.stack ?? error.message) : errorMessage(error)}\n`,
    );
    process.exitCode = error instanceof SluiceError && (error.code === 'ERR_CONFIG_INVALID' || error.code === 'ERR_CONFIG_FILE') ? 2 : 1;
  }
}
