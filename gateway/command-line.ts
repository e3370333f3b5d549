/** `sluice-gateway`: arguments, environment, signals and exit codes; what it does is in gateway.ts. */
import { systemClock } from '../shared/clock.ts';
import type { Command } from '../shared/cli.ts';
import { createProgram, runCli, withConfig } from '../shared/cli.ts';
import { createLogger } from '../shared/logging.ts';
import { ServiceManager } from '../shared/service-manager.ts';
import { gatewayConfigSchema, type GatewayConfig } from './config.ts';
import { addDevice, credentialsPath, listDevices, removeDevice } from './credentials.ts';
import { doctorCommand } from './doctor/doctor-command.ts';
import { enrollCommand } from './enroll/enroll-command.ts';
import { withIdentity } from './enroll/hub-identity.ts';
import { boundHeap } from './heap-bounds.ts';
import { tailCommands } from './tail/commands.ts';

/** A second signal, or the deadline: what is acknowledged is durable already. */
const EXIT_CUT_SHORT = 1;

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function run(config: GatewayConfig): Promise<void> {
  const { startGateway } = await import('./gateway.ts'); // only here: the other commands start far sooner without it
  const logger = createLogger('gateway', config.logLevel);
  const gateway = await startGateway({
    config,
    clock: systemClock,
    random: Math.random,
    logger,
    onFatal: (error) => {
      logger.fatal({ err: error }, 'the journal is gone; the supervisor starts the gateway again');
      process.exit(EXIT_CUT_SHORT);
    },
  });
  boundHeap();
  const { broker, http } = gateway;
  logger.info(
    {
      mqttPort: broker.address.port,
      mqttWsPort: broker.webSocketAddress?.port ?? null,
      httpPort: http.address.port,
      uplink: withIdentity(config).uplink.url,
      dataDir: config.dataDir,
      epoch: gateway.journal.epoch,
    },
    'gateway is ready',
  );
  const manager = new ServiceManager({
    env: process.env,
    pid: process.pid,
    clock: systemClock,
    logger,
    askHeart: () => gateway.journal.lanes(),
  });
  manager.ready(`MQTT on ${broker.address.port}, HTTP on ${http.address.port}`);
  await stopOnSignal(config.shutdownDeadlineMs, logger, () => {
    manager.stopping();
    return gateway.stop();
  });
}

/** Resolves when a signal has come and `stop` is done; leaves the process when that takes longer than the deadline. */
function stopOnSignal(deadlineMs: number, logger: ReturnType<typeof createLogger>, stop: () => Promise<void>): Promise<void> {
  return new Promise((resolve, reject) => {
    // The servers keep the process alive, but not while all of them are busy closing.
    const alive = setInterval(() => undefined, 60_000);
    let stopping = false;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (stopping) process.exit(EXIT_CUT_SHORT);
      stopping = true;
      logger.info({ signal }, 'stopping');
      setTimeout(() => {
        logger.warn({ deadlineMs }, 'the stop took longer than its deadline and is cut short; nothing acknowledged is lost');
        process.exit(EXIT_CUT_SHORT);
      }, deadlineMs).unref();
      stop()
        .then(() => {
          logger.info('stopped');
          resolve();
        })
        .catch(reject)
        .finally(() => clearInterval(alive));
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}

function deviceCommands(program: Command): void {
  const device = program.command('device').description('the credentials of devices');
  const add = device
    .command('add')
    .argument('<name>', 'user name, and the device that it may write as')
    .description('makes a credential and prints its secret, once');
  add.option('--any-device', 'may write readings of any device (collectors such as Telegraf)', false);
  const configOfAdd = withConfig(add, 'gateway', gatewayConfigSchema);
  add.action((name: string) => {
    const config = configOfAdd(process.env);
    const secret = addDevice(credentialsPath(config.dataDir), name, {
      anyDevice: add.opts<{ anyDevice: boolean }>().anyDevice,
      now: new Date(),
    });
    print(`user    ${name}`);
    print(`secret  ${secret}`);
    print('');
    const tls = config.mqtt.tls.cert === null ? '' : ' --cafile CA.pem';
    print(
      `mosquitto_pub -h ${config.mqtt.host} -p ${config.mqtt.port}${tls} -u ${name} -P ${secret} -q 1 -t devices/${name}/telemetry -m '{"temperature":21.5}'`,
    );
  });
  const list = device.command('list').description('lists the devices that have a credential');
  const configOfList = withConfig(list, 'gateway', gatewayConfigSchema);
  list.action(() => {
    for (const { name, createdAt, anyDevice } of listDevices(credentialsPath(configOfList(process.env).dataDir)))
      print(`${name}\t${createdAt}\t${anyDevice ? 'any device' : 'itself'}`);
  });
  const remove = device.command('remove').argument('<name>').description('takes a credential back');
  const configOfRemove = withConfig(remove, 'gateway', gatewayConfigSchema);
  remove.action((name: string) => {
    removeDevice(credentialsPath(configOfRemove(process.env).dataDir), name);
    print(`removed ${name}`);
  });
}

function configCommand(program: Command): void {
  const config = program.command('config').description('the configuration');
  const check = config.command('check').description('validates the configuration, all errors at once');
  const configOfCheck = withConfig(check, 'gateway', gatewayConfigSchema);
  check.action(() => {
    configOfCheck(process.env);
    print('the configuration is valid');
  });
}

const program = createProgram('sluice-gateway', 'Takes telemetry from devices, never breaks an acknowledgement, and sends it to a hub.');
const runCommand = program.command('run', { isDefault: true }).description('runs the gateway (the default)');
const configOfRun = withConfig(runCommand, 'gateway', gatewayConfigSchema);
runCommand.action(() => run(configOfRun(process.env)));
enrollCommand(program);
doctorCommand(program);
deviceCommands(program);
configCommand(program);
tailCommands(program);
await runCli(program, process.argv);
