/** `sluice-gateway enroll`. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { withConfig, type Command } from '../../shared/cli.ts';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { gatewayConfigSchema } from '../config.ts';
import { enroll } from './enroll.ts';
import { identityPath } from './hub-identity.ts';

const TIMEOUT_MS = 30_000;

interface Options {
  readonly hub: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly caFile?: string;
  readonly replace?: true;
}

export function enrollCommand(program: Command): void {
  const command = program
    .command('enroll')
    .description('receives identity and credentials from a hub, once')
    .requiredOption('--hub <url>', 'address of the hub: http(s)://host:port')
    .option('--token <token>', 'enrolment token: sluice-hub token create --enroll NAME')
    .option('--token-file <file>', 'file that has it instead; - is standard input')
    .option('--ca-file <file>', "PEM file of the authority of the hub's certificate")
    .option('--replace', 'give up the identity that this gateway has');
  const configOf = withConfig(command, 'gateway', gatewayConfigSchema);
  command.action(async (options: Options) => {
    const { dataDir, uplink } = configOf(process.env);
    const identity = await enroll({
      dataDir,
      hub: options.hub,
      enrolmentToken: givenToken(options),
      caFile: options.caFile === undefined ? null : path.resolve(options.caFile),
      replace: options.replace === true,
      randomBytes,
      timeoutMs: TIMEOUT_MS,
    });
    const lines = [`enrolled as ${identity.gateway} at ${identity.hub} (lake ${identity.lakeId})`, `kept in ${identityPath(dataDir)}`];
    if (uplink.url !== null) lines.push(`uplink.url stays in force: readings go to ${uplink.url}`);
    lines.push('a running gateway sends to it once it is restarted');
    process.stdout.write(`${lines.join('\n')}\n`);
  });
}

function givenToken({ token, tokenFile }: Options): string {
  if ((token === undefined) === (tokenFile === undefined))
    throw new SluiceError('ERR_CONFIG_INVALID', 'give either --token TOKEN or --token-file FILE');
  if (token !== undefined) return token.trim();
  try {
    return readFileSync(tokenFile === '-' ? 0 : String(tokenFile), 'utf8').trim();
  } catch (cause) {
    throw new SluiceError('ERR_CONFIG_FILE', `cannot read the token file ${tokenFile}: ${errorMessage(cause)}`, { cause });
  }
}
