#!/usr/bin/env node
/** `sluice-hub`: the command line of the hub. */
import { randomBytes } from 'node:crypto';
import { Command } from '../shared/cli.ts';
import { createProgram, runCli, withConfig } from '../shared/cli.ts';
import { systemClock } from '../shared/clock.ts';
import { SluiceError } from '../shared/errors.ts';
import { createLogger } from '../shared/logging.ts';
import { hubConfigSchema } from './config.ts';
import { startHub } from './hub.ts';
import { createToken, listTokens, revokeToken, type TokenKind } from './ingest/tokens.ts';
import { LocalStore } from './lake/local-store.ts';

const program = createProgram('sluice-hub', 'Takes batches from gateways, writes the lake, answers over HTTP.');

const run = new Command('run').description('run the hub (default)');
const runConfig = withConfig(run, 'hub', hubConfigSchema);
run.action(async () => {
  const config = runConfig(process.env);
  const logger = createLogger('hub', config.logLevel);
  const hub = await startHub(config, systemClock, logger, (error) => {
    logger.fatal({ err: error }, 'the hub cannot go on; what it had not committed is still at the gateways');
    process.exit(1);
  });
  const stop = (signal: NodeJS.Signals): void => {
    logger.info({ signal }, `${signal}: stopping`);
    // The deadline holds even if the lake does not answer: the gateways keep what is not committed.
    const deadline = setTimeout(() => process.exit(1), config.shutdownDeadlineMs);
    void hub.stop().then(
      () => {
        clearTimeout(deadline);
        process.exit(0);
      },
      (error: unknown) => {
        logger.error({ err: error }, 'the last commit failed; the gateways still have what was in it');
        process.exit(1);
      },
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
});

const configuration = new Command('config').description('the configuration');
const check = new Command('check').description('check the configuration and print it as the hub understands it');
const checkConfig = withConfig(check, 'hub', hubConfigSchema);
check.action(() => {
  process.stdout.write(`${JSON.stringify(checkConfig(process.env), null, 2)}\n`);
});
configuration.addCommand(check);

const token = new Command('token').description('the bearer tokens of gateways and readers');

const create = new Command('create')
  .description('make a token and print it, once')
  .option('--gateway <name>', 'for a gateway of this name')
  .option('--read', 'for whoever reads over HTTP')
  .option('--admin', 'for whoever also changes settings over HTTP')
  .option('--quiet', 'print the token alone');
const createConfig = withConfig(create, 'hub', hubConfigSchema);
create.action(async (options: { gateway?: string; read?: true; admin?: true; quiet?: true }) => {
  const kinds: TokenKind[] = [];
  if (options.gateway !== undefined) kinds.push('gateway');
  if (options.read === true) kinds.push('read');
  if (options.admin === true) kinds.push('admin');
  const [kind] = kinds;
  if (kind === undefined || kinds.length > 1)
    throw new SluiceError('ERR_CONFIG_INVALID', 'give exactly one of --gateway NAME, --read, --admin');
  const { lakeDir } = createConfig(process.env);
  const made = await createToken(await LocalStore.open(lakeDir), kind, options.gateway ?? null, systemClock, randomBytes);
  if (options.quiet === true) process.stdout.write(`${made.token}\n`);
  else process.stdout.write(tokenText(made.token, made.record.id, kind, options.gateway));
});

function tokenText(secret: string, id: string, kind: TokenKind, gateway: string | undefined): string {
  const use =
    kind === 'gateway'
      ? `Put it into a file on the gateway ${gateway}, readable by its user only, and set uplink.tokenFile.`
      : `Send it as a header: Authorization: Bearer ${secret}`;
  return `${secret}\n\nThis is the only time that the token is shown (id ${id}). ${use}\n`;
}

const list = new Command('list').description('list the tokens (not the secrets)');
const listConfig = withConfig(list, 'hub', hubConfigSchema);
list.action(async () => {
  for (const record of await listTokens(await LocalStore.open(listConfig(process.env).lakeDir))) {
    process.stdout.write(
      `${record.id}  ${record.kind.padEnd(7)}  ${(record.gateway ?? '-').padEnd(24)}  ${new Date(record.createdUs / 1000).toISOString()}\n`,
    );
  }
});

const revoke = new Command('revoke').description('revoke a token by its id').argument('<id>', 'as `token list` shows it');
const revokeConfig = withConfig(revoke, 'hub', hubConfigSchema);
revoke.action(async (id: string) => {
  await revokeToken(await LocalStore.open(revokeConfig(process.env).lakeDir), id);
  process.stdout.write(`token ${id} is revoked; running hubs notice within seconds\n`);
});

token.addCommand(create).addCommand(list).addCommand(revoke);
program.addCommand(run, { isDefault: true }).addCommand(configuration).addCommand(token);

await runCli(program, process.argv);
