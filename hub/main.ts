#!/usr/bin/env node
/** `sluice-hub`: the command line of the hub. */
import { randomBytes } from 'node:crypto';
import { Command } from '../shared/cli.ts';
import { createProgram, runCli, withConfig } from '../shared/cli.ts';
import { systemClock } from '../shared/clock.ts';
import { SluiceError } from '../shared/errors.ts';
import { createLogger } from '../shared/logging.ts';
import { ServiceManager } from '../shared/service-manager.ts';
import { collectInPlace } from './collector.ts';
import { hubConfigSchema } from './config.ts';
import { importCommand } from './import/command.ts';
import { createEnrolment, type Enrolment } from './ingest/enrolments.ts';
import { listForkedLanes, releaseForkedLane } from './ingest/forked-lanes.ts';
import { createToken, listTokens, revokeToken, type TokenKind } from './ingest/tokens.ts';
import { LocalStore } from './lake/local-store.ts';

const program = createProgram('sluice-hub', 'Takes batches from gateways, writes the lake, answers over HTTP.');

const run = new Command('run').description('run the hub (default)');
const runConfig = withConfig(run, 'hub', hubConfigSchema);
run.action(async () => {
  const config = runConfig(process.env);
  const { startHub } = await import('./hub.ts'); // only here: the other commands start far sooner without it
  const logger = createLogger('hub', config.logLevel);
  collectInPlace();
  const onFatal = (error: Error): void => {
    logger.fatal({ err: error }, 'the hub cannot go on; what it had not committed is still at the gateways');
    process.exit(1);
  };
  const hub = await startHub(config, systemClock, logger, onFatal, process.env);
  const manager = new ServiceManager({ env: process.env, pid: process.pid, clock: systemClock, logger, askHeart: () => hub.askEngine() });
  manager.ready(`HTTP on ${hub.address.port}`);
  const stop = (signal: NodeJS.Signals): void => {
    manager.stopping();
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

/** Longer than any delivery of a box, shorter than what is forgotten in a drawer. */
const VALID_HOURS_MAX = 24 * 90;

interface TokenOptions {
  readonly gateway?: string;
  readonly enroll?: string;
  readonly validHours: string;
  readonly read?: true;
  readonly admin?: true;
  readonly quiet?: true;
}

const create = new Command('create')
  .description('make a token and print it, once')
  .option('--gateway <name>', 'for a gateway of this name')
  .option('--enroll <name>', 'for enrolling a gateway of this name, once')
  .option('--valid-hours <hours>', 'how long an enrolment token may be used', '24')
  .option('--read', 'for whoever reads over HTTP')
  .option('--admin', 'for whoever also changes settings over HTTP')
  .option('--quiet', 'print the token alone');
const createConfig = withConfig(create, 'hub', hubConfigSchema);
create.action(async (options: TokenOptions) => {
  const { lakeDir } = createConfig(process.env);
  const given = [options.gateway, options.enroll, options.read, options.admin].filter((option) => option !== undefined);
  if (given.length !== 1) throw new SluiceError('ERR_CONFIG_INVALID', 'give exactly one of --gateway NAME, --enroll NAME, --read, --admin');
  const store = await LocalStore.open(lakeDir);
  if (options.enroll !== undefined) {
    const made = await createEnrolment(store, options.enroll, validMs(options.validHours), systemClock, randomBytes);
    process.stdout.write(options.quiet === true ? `${made.token}\n` : enrolmentText(made.token, made.enrolment));
    return;
  }
  const kind: TokenKind = options.gateway !== undefined ? 'gateway' : options.read === true ? 'read' : 'admin';
  const made = await createToken(store, kind, options.gateway ?? null, systemClock, randomBytes);
  process.stdout.write(options.quiet === true ? `${made.token}\n` : tokenText(made.token, made.record.id, kind, options.gateway));
});

function validMs(hours: string): number {
  const value = Number(hours);
  if (!(value > 0 && value <= VALID_HOURS_MAX))
    throw new SluiceError('ERR_CONFIG_INVALID', `--valid-hours ${hours}: above 0 and at most ${VALID_HOURS_MAX} hours`);
  return Math.ceil(value * 3_600_000);
}

function enrolmentText(secret: string, { gateway, expiresUs }: Enrolment): string {
  return `${secret}\n\nThis is the only time that the token is shown. On the machine that becomes the gateway ${gateway}, until ${new Date(expiresUs / 1000).toISOString()}:\n\n  sudo sluice-gateway enroll --hub http://THIS-HUB:8080 --token ${secret}\n`;
}

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

const lanes = new Command('lanes').description(
  'lanes of gateways that were restored from an image, and hold what the lake may have already',
);

const listLanes = new Command('list').description('list the forked lanes');
const listLanesConfig = withConfig(listLanes, 'hub', hubConfigSchema);
listLanes.action(async () => {
  const forked = await listForkedLanes(await LocalStore.open(listLanesConfig(process.env).lakeDir));
  if (forked.length === 0) process.stdout.write('no lane has forked\n');
  for (const { id, gateway, epoch, lane, assigned, committed, isReleased } of forked) {
    const state = isReleased ? 'released' : 'held at the gateway';
    process.stdout.write(`${id}  ${gateway}  ${epoch}/${lane}  gateway at ${assigned}, lake at ${committed}  ${state}\n`);
  }
});

const release = new Command('release')
  .description('take in what the gateway holds of a forked lane; readings that the lake has from before the restore will be there twice')
  .argument('<id>', 'as `lanes list` shows it');
const releaseConfig = withConfig(release, 'hub', hubConfigSchema);
release.action(async (id: string) => {
  const { gateway, epoch, lane } = await releaseForkedLane(await LocalStore.open(releaseConfig(process.env).lakeDir), id, systemClock);
  process.stdout.write(`${gateway} ${epoch}/${lane} is released; its gateway asks again within minutes\n`);
});

lanes.addCommand(listLanes).addCommand(release);
token.addCommand(create).addCommand(list).addCommand(revoke);
program.addCommand(run, { isDefault: true }).addCommand(configuration).addCommand(token).addCommand(lanes).addCommand(importCommand());

await runCli(program, process.argv);
