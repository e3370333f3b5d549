/** What came in since the start, for metrics and status. Plain numbers: they are counted on the hot path. */
export interface IngestCounters {
  /** Messages and requests that were decoded. */
  messages: number;
  readings: number;
  /** Messages of which nothing could be used: dead letters. */
  deadLetters: number;
  /** Values of otherwise good messages that became exceptions. */
  problems: number;
  unmatched: number;
  /** Messages that came again and were known to be durable. */
  redeliveries: number;
  /** Messages that were not taken because the journal could not store them; their senders were told. */
  refused: number;
  payloadBytes: number;
  /** Remote write: samples that say that a series has ended. */
  staleMarkers: number;
}

export function createIngestCounters(): IngestCounters {
  return {
    messages: 0,
    readings: 0,
    deadLetters: 0,
    problems: 0,
    unmatched: 0,
    redeliveries: 0,
    refused: 0,
    payloadBytes: 0,
    staleMarkers: 0,
  };
}
