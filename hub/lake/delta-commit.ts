/**
 * Putting an entry into the log, and the first one of all: what a commit does with the store, without the table's state.
 */
import type { Clock } from '../../shared/clock.ts';
import { isSluiceError, SluiceError } from '../../shared/errors.ts';
import { VERSION } from '../../shared/version.ts';
import { encodeLogEntry, READER_VERSION_MAX, WRITER_VERSION_MAX, type MetaData } from './delta-actions.ts';
import type { DeltaLog } from './delta-log.ts';
import { schemaString, type TableSpec } from './table-spec.ts';

export const ENGINE_INFO = `sluice-hub/${VERSION}`;

/** After a failed put or read-back: at once, then so much later. Three seconds bridge a restart of an object store's front. */
const RETRY_DELAYS_MS = [0, 50, 200, 800, 2000];

export interface Instant {
  readonly wallUs: number;
  readonly wallMs: number;
  readonly monotonicUs: number;
}

export function instant(clock: Clock): Instant {
  const wallUs = clock.nowUs();
  return { wallUs, wallMs: Math.floor(wallUs / 1000), monotonicUs: clock.monotonicUs() };
}

/**
 * Puts an entry, through lost answers: the same bytes at the same version may be put any number of times.
 *
 * @returns 'created', or 'exists': an entry can be read there, perhaps this one
 * @throws SluiceError ERR_LAKE_COMMIT_UNKNOWN when every attempt failed: it may be there, or may come to be; ERR_STORE_*
 */
export async function putEntry(log: DeltaLog, clock: Clock, version: number, bytes: Uint8Array): Promise<'created' | 'exists'> {
  const key = log.entryKey(version);
  let cause: unknown = null;
  for (const delayMs of RETRY_DELAYS_MS) {
    if (delayMs > 0) await new Promise<void>((resolve) => void clock.after(delayMs, resolve));
    try {
      return await log.store.putIfAbsent(key, bytes);
    } catch (error) {
      if (await isThere(log, key)) return 'exists';
      // Waiting does not make room or give rights.
      if (!isSluiceError(error) || !error.kind.retryable || error.code === 'ERR_STORE_FULL') throw error;
      cause = error;
    }
  }
  throw new SluiceError('ERR_LAKE_COMMIT_UNKNOWN', `${key}: ${RETRY_DELAYS_MS.length} attempts gave no answer`, { cause });
}

/** May answer false for what is there, when the store does not answer: the put is tried again then. */
async function isThere(log: DeltaLog, key: string): Promise<boolean> {
  try {
    return (await log.store.get(key)) !== null;
  } catch (error) {
    if (!isSluiceError(error)) throw error;
    return false;
  }
}

/** Version 0. Whether ours or another's stands in the end, one does. */
export async function createTable(
  log: DeltaLog,
  spec: TableSpec,
  options: { clock: Clock; hubId: string; uuid: () => string },
): Promise<void> {
  const { clock, hubId, uuid } = options;
  const timestampMs = instant(clock).wallMs;
  const metaData: MetaData = {
    id: uuid(),
    name: spec.name,
    description: null,
    schemaString: schemaString(spec),
    partitionColumns: spec.partitionColumns,
    configuration: spec.configuration,
    createdTime: timestampMs,
  };
  const protocol = { minReaderVersion: READER_VERSION_MAX, minWriterVersion: WRITER_VERSION_MAX };
  const header = { timestampMs, operation: 'CREATE TABLE', operationParameters: {}, engineInfo: ENGINE_INFO, txnId: uuid(), hubId };
  await putEntry(log, clock, 0, encodeLogEntry(header, { protocol, metaData, txns: [], adds: [], removes: [] }));
}
