/** `sluice-gateway doctor`: what is wrong with this gateway, and what to do about it; exit 1 when something fails. */
import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { withConfig, type Command } from '../../shared/cli.ts';
import { systemClock } from '../../shared/clock.ts';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { VERSION } from '../../shared/version.ts';
import { machineClockSources } from '../clock-sources.ts';
import { gatewayConfigSchema, type GatewayConfig } from '../config.ts';
import { withIdentity } from '../enroll/hub-identity.ts';
import { fail, ok, type Check } from './check.ts';
import { checkClock, checkMemory, checkPower } from './machine.ts';
import { checkHub, checkPorts } from './network.ts';
import { checkLatency, checkPermissions, checkSpace } from './storage.ts';

const ROOT = '/';
const MARKS: Readonly<Record<Check['result'], string>> = { ok: 'ok  ', warn: 'WARN', fail: 'FAIL' };

export function doctorCommand(program: Command): void {
  const command = program
    .command('doctor')
    .description('checks configuration, disk, clock, hub, ports, permissions and power, and gives advice')
    .option('--json', 'one JSON document');
  const configOf = withConfig(command, 'gateway', gatewayConfigSchema);
  command.action(async ({ json }: { json?: true }) => {
    const checks = await examine(() => configOf(process.env));
    const worst = checks.some(({ result }) => result === 'fail') ? 'fail' : checks.some(({ result }) => result === 'warn') ? 'warn' : 'ok';
    process.stdout.write(json === true ? `${JSON.stringify({ version: VERSION, result: worst, checks }, null, 2)}\n` : reportText(checks));
    if (worst === 'fail') process.exitCode = 1;
  });
}

async function examine(load: () => GatewayConfig): Promise<Check[]> {
  const machine = [await checkClock(systemClock, machineClockSources(ROOT)), await checkPower(ROOT), checkMemory(ROOT)];
  let config: GatewayConfig;
  try {
    config = load();
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return [fail('configuration', error.message, 'nothing else of the gateway can be checked until this is right'), ...machine];
  }
  const { dataDir } = config;
  const checks = [ok('configuration', 'valid'), checkPermissions(dataDir, userInfo().uid), checkSpace(config)];
  checks.push(
    checkLatency(dataDir, () => systemClock.monotonicUs()),
    ...machine,
    await checkPorts(config),
  );
  try {
    checks.push(...(await checkHub(withToken(withIdentity(config)), systemClock)));
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    checks.push(fail('hub credential', error.message, 'sluice-gateway enroll --hub URL --token TOKEN'));
  }
  return checks;
}

/** @throws SluiceError ERR_CONFIG_FILE */
function withToken(config: GatewayConfig): GatewayConfig {
  const { uplink } = config;
  if (uplink.token !== null || uplink.tokenFile === null) return config;
  try {
    return { ...config, uplink: { ...uplink, token: readFileSync(uplink.tokenFile, 'utf8').trim() } };
  } catch (cause) {
    throw new SluiceError('ERR_CONFIG_FILE', `cannot read the token file ${uplink.tokenFile}: ${errorMessage(cause)}`, { cause });
  }
}

function reportText(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, result, detail, advice }) => [
    `${MARKS[result]}  ${name.padEnd(width)}  ${detail}`,
    ...(advice === null ? [] : [`${' '.repeat(width + 8)}-> ${advice}`]),
  ]);
  return `${lines.join('\n')}\n`;
}
