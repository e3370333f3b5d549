/**
 * `sluice-sim verify`: ledger against lake against hub, again and again until all is there or the time is over.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { readLedger, type Ledger } from '../ledger/ledger.ts';
import { compareReadings, type ReadingsResult } from './compare-readings.ts';
import { compareWindows, type WindowsResult } from './compare-windows.ts';
import { HubClient } from './hub-client.ts';
import { LakeReader, type LakeContent } from './lake-reader.ts';
import type { VerifyReport } from './report.ts';
import { regenerateTruth, type DeviceTruth } from './truth.ts';

export interface VerifyOptions {
  readonly ledgerFile: string;
  readonly hubUrl: string;
  readonly token: string | null;
  readonly lakeDir: string;
  readonly waitMs: number;
  /** See compareReadings. */
  readonly otherRuns: boolean;
  readonly onProgress: (line: string) => void;
}

const POLL_MS = 500;
const PROGRESS_MS = 5000;

interface Look {
  readonly lake: LakeContent;
  readonly readings: ReadingsResult;
  /** null while readings are missing and there is still time. */
  readonly windows: WindowsResult | null;
}

/** Nothing that the hub may still be about to do would mend it. */
function isBeyondRepair(look: Look): boolean {
  return look.readings.duplicated > 0 || look.readings.altered > 0 || look.lake.defects.length > 0;
}

function isClean(look: Look): boolean {
  return look.readings.lost === 0 && look.windows !== null && look.windows.windows.every((window) => window.wrong === 0);
}

/** Every reason why the verdict is not 'ok'. Seeing nothing is one: a check that looked at nothing has proved nothing. */
function failuresOf(ledger: Ledger, look: Look): string[] {
  const { lake, readings, windows } = look;
  const failures: string[] = [];
  const require = (right: boolean, text: string): void => {
    if (!right) failures.push(text);
  };
  require(readings.lost === 0, `${readings.lost} readings lost`);
  require(readings.duplicated === 0, `${readings.duplicated} readings duplicated`);
  require(readings.altered === 0, `${readings.altered} readings altered`);
  for (const window of windows?.windows ?? []) {
    require(window.wrong === 0, `${window.wrong} wrong aggregates in ${window.window}`);
    require(window.answered > 0, `the hub answered no window of ${window.window}`);
  }
  require(windows !== null, 'the aggregates were not compared');
  require(readings.acked + readings.inDoubt > 0, 'the ledger has no readings: nothing was verified');
  require(readings.found + readings.inDoubtArrived > 0, 'no reading of the ledger is in the lake: nothing was verified');
  require(ledger.totals.readingsAcked ===
    readings.acked, `the ledger counts ${ledger.totals.readingsAcked} acknowledged readings, ${readings.acked} were compared`);
  failures.push(...lake.defects);
  return failures;
}

/**
 * @throws SluiceError ERR_SIM_LEDGER_READ, ERR_SIM_LEDGER_MISMATCH at once; ERR_SIM_LAKE, ERR_SIM_HUB when they last until the time is over.
 */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  const ledger = readLedger(options.ledgerFile);
  const truth = regenerateTruth(ledger);
  const lakeReader = new LakeReader(options.lakeDir);
  const hub = new HubClient(options.hubUrl, options.token);
  const startMs = performance.now();
  let progressMs = startMs;
  for (;;) {
    const isLast = performance.now() - startMs >= options.waitMs;
    const look = await lookOnce(truth, lakeReader, hub, options.otherRuns, isLast);
    if (!(look instanceof SluiceError) && (isLast || isClean(look) || (isBeyondRepair(look) && look.windows !== null))) {
      const failures = failuresOf(ledger, look);
      return reportOf(ledger, look, failures, performance.now() - startMs);
    }
    if (look instanceof SluiceError && isLast) throw look;
    if (performance.now() - progressMs >= PROGRESS_MS) {
      progressMs = performance.now();
      options.onProgress(`${((progressMs - startMs) / 1000).toFixed(0)} s: ${describe(look)}`);
    }
    await sleep(POLL_MS);
  }
}

function describe(look: Look | SluiceError): string {
  if (look instanceof SluiceError) return look.message;
  const wrong = look.windows?.windows.reduce((sum, window) => sum + window.wrong, 0);
  return `${look.readings.found} of ${look.readings.acked} acknowledged readings are in the lake${wrong === undefined ? '' : `, ${wrong} aggregates differ`}`;
}

async function lookOnce(
  truth: readonly DeviceTruth[],
  lakeReader: LakeReader,
  hub: HubClient,
  otherRuns: boolean,
  isLast: boolean,
): Promise<Look | SluiceError> {
  try {
    const lake = await lakeReader.read();
    const readings = compareReadings(truth, lake, otherRuns);
    // Asking for windows while readings are missing would only load the hub.
    const windows =
      readings.lost === 0 || isLast || readings.duplicated + readings.altered > 0 ? await compareWindows(hub, readings.counted) : null;
    return { lake, readings, windows };
  } catch (error) {
    // A hub that restarts and a file that was just vacuumed are not there for a moment; the caller tries again.
    if (isSluiceError(error, 'ERR_SIM_LAKE') || isSluiceError(error, 'ERR_SIM_HUB')) return error;
    throw error;
  }
}

function reportOf(ledger: Ledger, look: Look, failures: readonly string[], waitedMs: number): VerifyReport {
  const { lake, windows } = look;
  const { counted: _counted, examples, ...readings } = look.readings;
  const exceptions: Record<string, number> = {};
  for (const exception of lake.exceptions) exceptions[exception.kind] = (exceptions[exception.kind] ?? 0) + 1;
  return {
    ok: failures.length === 0,
    failures,
    waitedMs: Math.round(waitedMs),
    ledger: { complete: ledger.complete, devices: ledger.devices.length, seed: ledger.fleet.seed, ...ledger.totals },
    lake: {
      readingsVersion: lake.readingsVersion,
      exceptionsVersion: lake.exceptionsVersion,
      files: lake.fileCount,
      rows: lake.rowCount,
      exceptions,
    },
    readings,
    windows: windows?.windows ?? [],
    examples: [...examples, ...(windows?.examples ?? [])],
  };
}
