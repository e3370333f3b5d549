/** The thread of the lake's maintenance: a lake of its own, runs by the clock, answers how the tables are. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import cron from 'node-cron';
import { systemClock } from '../shared/clock.ts';
import { errorMessage, isSluiceError } from '../shared/errors.ts';
import { createLogger } from '../shared/logging.ts';
import { lowerThreadPriority } from '../shared/thread-priority.ts';
import { Lake } from './lake/lake.ts';
import { LocalStore } from './lake/local-store.ts';
import { Maintenance } from './maintenance.ts';
import type { MaintenanceReply, MaintenanceRequest, MaintenanceSettings } from './maintenance-client.ts';

/** Behind everything else: it has all day. */
const NICE_STEPS = 10;

const settings = workerData as MaintenanceSettings;
const port = parentPort;
if (port === null) throw new Error('maintenance-worker runs as a worker thread');
const logger = createLogger('hub-maintenance', settings.logLevel);
lowerThreadPriority(NICE_STEPS, logger);

let opened: Promise<Maintenance> | null = null;

/** A log that was cleaned up under us, or a store that was away at the start: the next call opens the lake again. */
async function maintenance(): Promise<Maintenance> {
  opened ??= openMaintenance();
  try {
    return await opened;
  } catch (error) {
    opened = null;
    throw error;
  }
}

async function openMaintenance(): Promise<Maintenance> {
  const store = await LocalStore.open(settings.lakeDir);
  const lake = await Lake.open(store, settings.lakeDir, { clock: systemClock, hubId: settings.hubInstance, logger });
  return new Maintenance(lake, { rowsMax: settings.compactionRowsMax }, () => nextTurn(), settings.definitions);
}

async function run(): Promise<void> {
  try {
    await (await maintenance()).run();
  } catch (error) {
    if (isSluiceError(error, 'ERR_LAKE_LOG_GAP')) opened = null;
    // Nothing depends on it being done now: the next turn of the clock tries again.
    logger.error({ err: error }, 'maintenance of the lake failed; it is tried again');
  }
}

cron.schedule(settings.schedule, run, { noOverlap: true });

async function answer({ id, method }: MaintenanceRequest): Promise<MaintenanceReply> {
  try {
    if (method === 'run') await run();
    return { id, ok: true, status: await (await maintenance()).status() };
  } catch (error) {
    return { id, ok: false, code: isSluiceError(error) ? error.code : null, message: errorMessage(error) };
  }
}

port.on('message', (message: MaintenanceRequest) => {
  void answer(message).then((reply) => port.postMessage(reply));
});
