/** The data directory: whose it is, what fits into it, and how long its disk takes to make something durable. */
import {
  closeSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  rmSync,
  statfsSync,
  writeSync,
  accessSync,
} from 'node:fs';
import path from 'node:path';
import { errorMessage } from '../../shared/errors.ts';
import type { GatewayConfig } from '../config.ts';
import { bytesText, fail, ok, warn, type Check } from './check.ts';

/** Files that hold secrets, by name in the data directory. */
const SECRETS = ['credentials.json', 'hub.json', 'hub.pending.json'];
const ENTRIES_MAX = 10_000;
const WRITES_MAX = 50;
const WRITE_BYTES = 4_096;
const MEASURE_MS_MAX = 5_000;
/** Above it a device that waits for each ack sends less than ten messages a second. */
const FSYNC_MS_WARN = 100;
/** Above it acks are later than many devices wait. */
const FSYNC_MS_FAIL = 2_000;

export function checkPermissions(dataDir: string, uid: number): Check {
  const name = 'file permissions';
  try {
    accessSync(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    return missing
      ? warn(name, `${dataDir} does not exist yet`, 'the gateway makes it at its first start, if it may write beside it')
      : fail(
          name,
          `${dataDir} cannot be written by user ${uid}: ${errorMessage(error)}`,
          `sudo chown -R sluice-gateway: ${dataDir}, or run the doctor with sudo`,
        );
  }
  const problems: string[] = [];
  let looked = 0;
  const visit = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (++looked > ENTRIES_MAX) return;
      const file = path.join(directory, entry.name);
      const stat = lstatSync(file, { throwIfNoEntry: false });
      if (stat === undefined) continue; // a running gateway renames and deletes
      if (stat.uid !== uid) problems.push(`${file} belongs to user ${stat.uid}`);
      if (SECRETS.includes(entry.name) && (stat.mode & 0o077) !== 0)
        problems.push(`${file} may be read by others (mode ${(stat.mode & 0o777).toString(8)})`);
      if (entry.isDirectory()) visit(file);
    }
  };
  try {
    visit(dataDir);
  } catch (error) {
    problems.push(errorMessage(error));
  }
  if (problems.length === 0) return ok(name, `${looked} files in ${dataDir} belong to user ${uid}`);
  const more = problems.length > 3 ? `, and ${problems.length - 3} more` : '';
  return fail(name, problems.slice(0, 3).join('; ') + more, `sudo chown -R sluice-gateway: ${dataDir} && sudo chmod -R go= ${dataDir}`);
}

export function checkSpace({ dataDir, journal }: GatewayConfig): Check {
  const name = 'disk space';
  try {
    const { bavail, bsize } = statfsSync(nearestDirectory(dataDir));
    const freeBytes = bavail * bsize;
    const usedBytes = journalBytes(path.join(dataDir, 'journal'));
    const wantedBytes = Math.max(0, journal.bufferBytesMax - usedBytes) + journal.freeSpaceReserveBytes;
    const found = `${bytesText(freeBytes)} free, the journal has ${bytesText(usedBytes)} of at most ${bytesText(journal.bufferBytesMax)}`;
    if (freeBytes < journal.freeSpaceReserveBytes)
      return fail(
        name,
        `${found}; ${bytesText(journal.freeSpaceReserveBytes)} are to be left to others`,
        'free some space: the buffer is at its end now',
      );
    if (freeBytes < wantedBytes)
      return warn(
        name,
        found,
        `an outage fills the disk before the buffer is full: free space, or set journal.bufferBytesMax to ${Math.max(0, freeBytes - journal.freeSpaceReserveBytes + usedBytes)}`,
      );
    return ok(name, found);
  } catch (error) {
    return fail(name, errorMessage(error), `is ${dataDir} on a disk that is mounted?`);
  }
}

function journalBytes(directory: string): number {
  try {
    return readdirSync(directory).reduce(
      (sum, entry) => sum + (lstatSync(path.join(directory, entry), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
  } catch {
    return 0; // no journal yet
  }
}

function nearestDirectory(directory: string): string {
  for (let at = path.resolve(directory); ; at = path.dirname(at)) {
    if (lstatSync(at, { throwIfNoEntry: false })?.isDirectory() === true || at === path.dirname(at)) return at;
  }
}

/** Small appends, each made durable as the journal makes them. @param monotonicUs of the clock */
export function checkLatency(dataDir: string, monotonicUs: () => number): Check {
  const name = 'disk latency';
  const file = path.join(nearestDirectory(dataDir), `.doctor-${process.pid}.tmp`);
  const writes: number[] = [];
  const syncs: number[] = [];
  try {
    const fd = openSync(file, 'wx', 0o600);
    try {
      const block = Buffer.alloc(WRITE_BYTES, 0x55);
      const endUs = monotonicUs() + MEASURE_MS_MAX * 1000;
      // The first one allocates, and would be the worst every time.
      writeSync(fd, block);
      fsyncSync(fd);
      for (let count = 0; count < WRITES_MAX && monotonicUs() < endUs; count++) {
        const startUs = monotonicUs();
        writeSync(fd, block);
        const writtenUs = monotonicUs();
        fdatasyncSync(fd);
        writes.push((writtenUs - startUs) / 1000);
        syncs.push((monotonicUs() - writtenUs) / 1000);
      }
    } finally {
      closeSync(fd);
      rmSync(file, { force: true });
    }
  } catch (error) {
    return fail(name, errorMessage(error), `the disk of ${dataDir} cannot be written: is it full, read-only or damaged (dmesg)?`);
  }
  return latencyCheck(name, writes, syncs);
}

function latencyCheck(name: string, writes: number[], syncs: number[]): Check {
  const at = (values: number[], share: number): number =>
    values.sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? 0;
  const p95 = at(syncs, 0.95);
  const found = `write ${at(writes, 0.5).toFixed(2)} ms, fsync ${at(syncs, 0.5).toFixed(1)} ms, 95 % below ${p95.toFixed(1)} ms (${syncs.length} of 4 kB)`;
  if (p95 > FSYNC_MS_FAIL) return fail(name, found, 'acknowledgements take seconds: replace the card, or put dataDir on an SSD');
  if (p95 > FSYNC_MS_WARN)
    return warn(name, found, 'devices that wait for each acknowledgement are held up: a better card (A2, "endurance") or an SSD helps');
  return ok(name, found);
}
