/**
 * The chunks of a streamed result of DuckDB, so that what breaks off is never taken for what is complete.
 *
 * A stream ends in the same way, by a chunk without rows, where its rows end and where reading them failed or was interrupted:
 * the error is kept behind the C interface. All that shows of it is that the result has no type any more.
 */
import { ResultReturnType, type DuckDBDataChunk, type DuckDBResult } from '@duckdb/node-api';

/** Why is not known: DuckDB says it only to who runs the statement again, not streamed. */
export class StreamBrokenError extends Error {
  constructor() {
    super('reading broke off before the last row');
    this.name = 'StreamBrokenError';
  }
}

/** @throws StreamBrokenError behind the last chunk that could be read */
export async function* streamedChunks(result: DuckDBResult): AsyncGenerator<DuckDBDataChunk> {
  for (;;) {
    const chunk = await result.fetchChunk();
    if (chunk === null || chunk.rowCount === 0) break;
    yield chunk;
  }
  if (result.returnType === ResultReturnType.INVALID) throw new StreamBrokenError();
}
