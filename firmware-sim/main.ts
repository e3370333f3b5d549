#!/usr/bin/env node
/**
 * sluice-sim: plays a fleet of devices, keeps a ledger of the truth, and checks the other end against it.
 */
import { InvalidArgumentError } from 'commander';
import { Command, createProgram, runCli, withConfig } from '../shared/cli.ts';
import { systemClock } from '../shared/clock.ts';
import { simConfigSchema } from './config.ts';
import { runDemo } from './demo.ts';
import { formatRunSummary } from './progress.ts';
import { runFleet } from './run.ts';
import { formatReport } from './verify/report.ts';
import { verify } from './verify/verify.ts';

const program = createProgram('sluice-sim', 'Simulated devices over real MQTT, with a ledger that verify checks hub and lake against.');

const run = new Command('run').description('send as a fleet of devices, and write the ledger').exitOverride();
run.option('--json', 'print the summary as JSON');
const readRunConfig = withConfig(run, 'sim', simConfigSchema);
run.action(async (options: { json?: boolean }) => {
  const config = readRunConfig(process.env);
  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130); // asked twice: the last written ledger stands
    process.stderr.write('\nstopping: no further message becomes due, waiting for acknowledgements (again to give up)\n');
    stop.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const { summary } = await runFleet({ config, clock: systemClock, stop: stop.signal, output: process.stderr });
  process.stdout.write(options.json === true ? `${JSON.stringify(summary)}\n` : `${formatRunSummary(summary)}\nledger: ${config.ledger}\n`);
  process.off('SIGINT', onSignal);
  process.off('SIGTERM', onSignal);
});

interface VerifyFlags {
  ledger: string;
  hub: string;
  token?: string;
  lake: string;
  wait: number;
  otherRuns?: boolean;
  json?: boolean;
}

function port(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 65_535) throw new InvalidArgumentError('expected a port between 1 and 65535');
  return value;
}

interface DemoFlags {
  dataDir: string;
  devices: string;
  duration?: number;
  hubPort: number;
  mqttPort: number;
  mqttWsPort: number;
  gatewayHttpPort: number;
}

const demo = new Command('demo')
  .description('run a hub, a gateway and a fleet as three processes, to look at (npm start)')
  .option('--data-dir <dir>', 'where lake, journal and ledger go', './data')
  .option('--devices <count>', 'devices of the fleet', '50')
  .option('--duration <seconds>', 'stop by itself after so long', seconds)
  .option('--hub-port <port>', 'HTTP of the hub', port, 8080)
  .option('--mqtt-port <port>', 'MQTT of the gateway', port, 1883)
  .option('--mqtt-ws-port <port>', 'MQTT over WebSocket of the gateway', port, 8083)
  .option('--gateway-http-port <port>', 'HTTP of the gateway', port, 8081)
  .action(async (flags: DemoFlags) => {
    process.exitCode = await runDemo({
      dataDir: flags.dataDir,
      devices: Number(flags.devices),
      durationSeconds: flags.duration ?? null,
      hubPort: flags.hubPort,
      mqttPort: flags.mqttPort,
      webSocketPort: flags.mqttWsPort,
      gatewayHttpPort: flags.gatewayHttpPort,
    });
  });

function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0 || value > 86_400)
    throw new InvalidArgumentError('expected seconds between 0 and 86400');
  return value;
}

const check = new Command('verify')
  .description("compare a ledger with the lake's files and the hub's answers; exit 1 on anything lost, duplicated, altered or wrong")
  .exitOverride()
  .requiredOption('--ledger <file>', 'ledger written by run')
  .requiredOption('--hub <url>', 'the hub, for example http://127.0.0.1:8080')
  .requiredOption('--lake <dir>', 'directory of the lake, the parent of readings/ and exceptions/')
  .option('--token <token>', 'read token of the hub (also SLUICE_SIM_TOKEN)')
  .option('--wait <seconds>', 'how long the hub may lag before what is missing counts as lost', seconds, 60)
  .option(
    '--other-runs',
    "the lake also has other runs of devices with the same names: rows outside this run's time are counted, not judged",
  )
  .option('--json', 'print the report as JSON')
  .action(async (flags: VerifyFlags) => {
    const report = await verify({
      ledgerFile: flags.ledger,
      hubUrl: flags.hub,
      token: flags.token ?? process.env['SLUICE_SIM_TOKEN'] ?? null,
      lakeDir: flags.lake,
      waitMs: flags.wait * 1000,
      otherRuns: flags.otherRuns === true,
      onProgress: (line) => process.stderr.write(`${line}\n`),
    });
    process.stdout.write(flags.json === true ? `${JSON.stringify(report)}\n` : `${formatReport(report)}\n`);
    if (!report.ok) process.exitCode = 1;
  });

program.addCommand(run).addCommand(check).addCommand(demo);
await runCli(program, process.argv);
