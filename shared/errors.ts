/**
 * Operating errors: one class, one table.
 *
 * A programmer error is an assertion (`node:assert`) and stops the process. An operating error is a SluiceError: its
 * code is for programs, its message for people and carries both numbers (asked, allowed) where there are numbers.
 * docs/errors.md is generated from this table; a test compares table, page and the codes that the source uses.
 */

export interface ErrorKind {
  /** May the same request succeed later, unchanged? */
  readonly retryable: boolean;
  readonly httpStatus: number;
  readonly summary: string;
}

export const ERRORS = {
  // config, start
  ERR_CONFIG_INVALID: { retryable: false, httpStatus: 500, summary: 'The configuration has errors; all are listed at once.' },
  ERR_CONFIG_FILE: { retryable: false, httpStatus: 500, summary: 'The configuration file cannot be read or is not YAML.' },
  ERR_LISTEN_PORT_BUSY: { retryable: true, httpStatus: 500, summary: 'Another process listens on the port.' },
  ERR_LISTEN_NO_CREDENTIALS: { retryable: false, httpStatus: 500, summary: 'A server without credentials binds to loopback only.' },
  ERR_LISTEN_FAILED: { retryable: false, httpStatus: 500, summary: 'The address cannot be listened on.' },
  // uplink
  ERR_UPLINK_MESSAGE: { retryable: false, httpStatus: 400, summary: 'A frame of the uplink is not a message of the protocol.' },
  ERR_UPLINK_URL: { retryable: false, httpStatus: 500, summary: 'The uplink address or its CA file cannot be used.' },
  ERR_UPLINK_CONNECT: { retryable: true, httpStatus: 502, summary: 'The hub cannot be reached, or the connection broke.' },
  ERR_UPLINK_UNAUTHORIZED: { retryable: false, httpStatus: 401, summary: 'The hub does not know the gateway token.' },
  ERR_UPLINK_WRONG_LAKE: {
    retryable: false,
    httpStatus: 409,
    summary: 'The hub serves another lake than the one that the gateway has pinned.',
  },
  ERR_UPLINK_REFUSED: { retryable: true, httpStatus: 503, summary: 'The hub refused the connection.' },
  ERR_UPLINK_PROTOCOL: { retryable: true, httpStatus: 502, summary: 'An answer of the hub contradicts what the gateway knows.' },
  ERR_UPLINK_STALLED: { retryable: true, httpStatus: 504, summary: 'Batches are in flight and nothing was committed for too long.' },
  ERR_UPLINK_FORKED: { retryable: false, httpStatus: 409, summary: 'The hub has more of a lane than the gateway ever assigned.' },
  ERR_UPLINK_UPGRADE_HUB: { retryable: true, httpStatus: 409, summary: 'The hub does not know the wire version of a batch.' },
  ERR_UPLINK_JOURNAL: { retryable: true, httpStatus: 500, summary: 'The journal did not answer what the uplink asked.' },
  // tokens
  ERR_TOKEN_GATEWAY_NAME: { retryable: false, httpStatus: 400, summary: 'The gateway name is not allowed.' },
  ERR_TOKEN_UNKNOWN: { retryable: false, httpStatus: 404, summary: 'No token has this id.' },
  ERR_TOKEN_LIMIT: { retryable: false, httpStatus: 409, summary: 'The lake has as many tokens as are allowed.' },
  ERR_LANE_UNKNOWN: { retryable: false, httpStatus: 404, summary: 'No forked lane has this id.' },
  ERR_LAKE_FILE_MISSING: { retryable: false, httpStatus: 500, summary: 'A data file that the log names is not in the store.' },
  // queries
  ERR_QUERY_TIMEOUT: { retryable: false, httpStatus: 504, summary: 'The query took longer than it may.' },
  ERR_QUERY_MEMORY: { retryable: false, httpStatus: 422, summary: 'The query needs more memory than it may have.' },
  ERR_QUERY_TOO_LARGE: {
    retryable: false,
    httpStatus: 422,
    summary: 'The answer would have, or be merged from, more rows or bytes than are allowed.',
  },
  ERR_QUERY_FILE_GONE: { retryable: true, httpStatus: 503, summary: 'A data file was deleted between planning and reading the query.' },
  ERR_QUERY_FAILED: { retryable: false, httpStatus: 500, summary: 'The query engine failed; the message has its words.' },
  // enrolment
  ERR_ENROLL_TOKEN: { retryable: false, httpStatus: 401, summary: 'The enrolment token is not known, is used up or has expired.' },
  ERR_ENROLL_REQUEST: { retryable: false, httpStatus: 400, summary: 'The enrolment request is not what the hub expects.' },
  ERR_ENROLL_BUSY: { retryable: true, httpStatus: 429, summary: 'Too many gateways enrol at once.' },
  ERR_ENROLL_FILE: { retryable: false, httpStatus: 500, summary: 'The file with the identity and credentials for the hub cannot be used.' },
  ERR_ENROLL_FAILED: {
    retryable: true,
    httpStatus: 502,
    summary: 'The hub could not be asked to enrol this gateway, or did not answer as it should.',
  },
  // packages
  ERR_PACKAGE_BUILD: { retryable: false, httpStatus: 500, summary: 'A package cannot be built: a tool is missing or failed.' },
  ERR_SQL_INVALID: { retryable: false, httpStatus: 400, summary: "The SQL statement is wrong; the message has DuckDB's words." },
  ERR_SQL_REFUSED: { retryable: false, httpStatus: 400, summary: 'The SQL statement is not one SELECT or EXPLAIN over the views.' },
  ERR_RELEASE_UNKNOWN: { retryable: false, httpStatus: 404, summary: 'No exception of the lake has this id.' },
  ERR_RELEASE_CONTENT: { retryable: false, httpStatus: 409, summary: 'The exception holds no readings that could be released.' },
  ERR_RELEASE_TIME: { retryable: false, httpStatus: 400, summary: 'The corrected times are not possible, or cannot be computed.' },
  ERR_QUERY_CANCELLED: { retryable: true, httpStatus: 503, summary: 'The query was cancelled because its caller went away.' },
  // import
  ERR_IMPORT_FILE: { retryable: false, httpStatus: 500, summary: 'A file to be imported cannot be read, or changed meanwhile.' },
  ERR_IMPORT_MAPPING: { retryable: false, httpStatus: 400, summary: 'The flags of the import do not fit the file.' },
  ERR_IMPORT_CONFLICT: {
    retryable: true,
    httpStatus: 409,
    summary: 'The import of this file was begun in another way, or by somebody else.',
  },
  // alerts
  ERR_ALERT_RULE_UNKNOWN: { retryable: false, httpStatus: 404, summary: 'No rule of alerts has this name.' },
  ERR_ALERT_RULE_LIMIT: { retryable: false, httpStatus: 409, summary: 'The lake has as many rules of alerts as are allowed.' },
  ERR_ALERT_BUSY: {
    retryable: true,
    httpStatus: 503,
    summary: 'Other hubs changed the alerts faster than this one could; nothing was changed.',
  },
  ERR_ALERT_LOG: { retryable: false, httpStatus: 500, summary: 'The log of alerts in the lake is damaged or has a hole.' },
  ERR_ALERT_DELIVERY: { retryable: true, httpStatus: 502, summary: 'A receiver of alerts could not be told; it is tried again.' },
  // promql
  ERR_PROMQL_INVALID: {
    retryable: false,
    httpStatus: 400,
    summary: 'The PromQL query or a parameter is wrong, or outside the subset that is answered.',
  },
  ERR_PROMQL_EXECUTION: {
    retryable: false,
    httpStatus: 422,
    summary: 'The PromQL query is right, and its data cannot be combined, or are too many.',
  },
  // demo
  ERR_DEMO_CHILD: { retryable: true, httpStatus: 500, summary: 'A process of the demo ended or did not become ready.' },
  // http
  ERR_HTTP_UNAUTHORIZED: { retryable: false, httpStatus: 401, summary: 'The request carries no valid bearer token or password.' },
  ERR_HTTP_FORBIDDEN: { retryable: false, httpStatus: 403, summary: 'The credential does not allow this.' },
  ERR_HTTP_NOT_FOUND: { retryable: false, httpStatus: 404, summary: 'Nothing is served at this path.' },
  ERR_HTTP_METHOD: { retryable: false, httpStatus: 405, summary: 'The path exists, the method does not.' },
  ERR_HTTP_BODY_TOO_LARGE: { retryable: false, httpStatus: 413, summary: 'The body is larger than allowed.' },
  ERR_HTTP_PARAMETER: { retryable: false, httpStatus: 400, summary: 'A query parameter or body field is wrong.' },
  ERR_HTTP_UNSUPPORTED_MEDIA: { retryable: false, httpStatus: 415, summary: 'The content type or encoding is not understood.' },
  ERR_HTTP_UNAVAILABLE: { retryable: true, httpStatus: 503, summary: 'The server is starting, stopping or overloaded.' },
  ERR_HTTP_INTERNAL: { retryable: true, httpStatus: 500, summary: 'An unexpected error; the log has the details.' },
  // gateway: decode, tail
  ERR_TAIL_CONNECT: {
    retryable: true,
    httpStatus: 502,
    summary: 'No running gateway answers the tail command, or it ended the connection.',
  },
  ERR_DECODE_SYNTAX: {
    retryable: false,
    httpStatus: 400,
    summary: 'The payload is not of its format: JSON, SenML, line protocol, MessagePack or a number.',
  },
  ERR_DECODE_SHAPE: { retryable: false, httpStatus: 400, summary: 'The payload parses, but is none of the known shapes of readings.' },
  ERR_DECODE_VALUE: { retryable: false, httpStatus: 400, summary: 'A value is not a finite number, a boolean or a text.' },
  ERR_DECODE_TIME: {
    retryable: false,
    httpStatus: 400,
    summary: 'A time is neither a number in a known unit nor an RFC 3339 string with its zone.',
  },
  ERR_DECODE_NAME: { retryable: false, httpStatus: 400, summary: 'A name is empty, longer than 256 bytes or has control characters.' },
  ERR_DECODE_DEVICE: { retryable: false, httpStatus: 400, summary: 'Neither topic, request nor payload names the device.' },
  ERR_DECODE_TOO_DEEP: { retryable: false, httpStatus: 400, summary: 'The payload is nested deeper than allowed.' },
  ERR_DECODE_TOO_MANY: { retryable: false, httpStatus: 413, summary: 'The payload has more readings or fields than allowed.' },
  // gateway: sources
  ERR_SOURCE_CONNECT: {
    retryable: true,
    httpStatus: 502,
    summary: 'The broker of an MQTT source refuses the connection or a subscription.',
  },
  ERR_SOURCE_FILE: { retryable: false, httpStatus: 422, summary: 'A file of a watched folder cannot be read as a whole.' },
  // gateway: broker, devices
  ERR_BROKER_PACKET_TOO_LARGE: { retryable: false, httpStatus: 413, summary: 'An MQTT packet is larger than allowed.' },
  ERR_BROKER_MALFORMED: { retryable: false, httpStatus: 400, summary: 'The bytes are not an MQTT packet.' },
  ERR_BROKER_TOO_MANY: {
    retryable: true,
    httpStatus: 503,
    summary: 'The broker is at its limit of connections, sessions or retained messages.',
  },
  ERR_BROKER_UNAUTHORIZED: {
    retryable: false,
    httpStatus: 401,
    summary: 'User name or password is wrong, or anonymous clients are not allowed.',
  },
  ERR_BROKER_FORBIDDEN: { retryable: false, httpStatus: 403, summary: 'The credential may not publish as this device.' },
  ERR_BROKER_STOPPING: { retryable: true, httpStatus: 503, summary: 'The gateway is stopping and takes no more messages.' },
  ERR_CREDENTIALS_FILE: { retryable: false, httpStatus: 500, summary: "The file with the devices' credentials cannot be read or written." },
  ERR_CREDENTIALS_NAME: {
    retryable: false,
    httpStatus: 400,
    summary: "The device's name is not usable, exists already or does not exist.",
  },
  // lake: object stores, Delta log
  ERR_STORE_KEY: { retryable: false, httpStatus: 500, summary: 'The object key is not valid.' },
  ERR_STORE_RANGE: { retryable: false, httpStatus: 500, summary: 'The byte range is not valid.' },
  ERR_STORE_IO: { retryable: true, httpStatus: 503, summary: 'The store failed to read or write; a write may have happened all the same.' },
  ERR_STORE_FULL: { retryable: true, httpStatus: 507, summary: 'The store is full or its quota is used up.' },
  ERR_STORE_DENIED: { retryable: false, httpStatus: 500, summary: 'The store refuses access, or is read-only.' },
  ERR_STORE_NO_HARD_LINKS: {
    retryable: false,
    httpStatus: 500,
    summary: 'The file system has no hard links, so a commit would not be atomic.',
  },
  ERR_LAKE_PROTOCOL: {
    retryable: false,
    httpStatus: 500,
    summary: 'The Delta table demands a protocol or feature that this hub does not write.',
  },
  ERR_LAKE_SCHEMA: { retryable: false, httpStatus: 500, summary: 'The Delta table has other columns than this hub writes.' },
  ERR_LAKE_LOG_CORRUPT: { retryable: false, httpStatus: 500, summary: 'An entry of the Delta log cannot be read.' },
  ERR_LAKE_LOG_GAP: { retryable: true, httpStatus: 503, summary: 'Versions of the Delta log are gone; the table must be opened again.' },
  ERR_LAKE_CONTENTION: { retryable: true, httpStatus: 503, summary: 'A commit lost every race that it was allowed to try.' },
  ERR_LAKE_COMMIT_UNKNOWN: {
    retryable: true,
    httpStatus: 503,
    summary: 'The store did not say whether the commit happened; it is found out at the next one.',
  },
  ERR_LAKE_STAGED_EXPIRED: {
    retryable: false,
    httpStatus: 500,
    summary: 'Staged data files are too old to be committed: vacuum may have taken them.',
  },
  ERR_LAKE_CHECKPOINT: { retryable: false, httpStatus: 500, summary: 'A checkpoint of the Delta log cannot be read.' },
  // batch codec (docs/wire.md)
  ERR_BATCH_TRUNCATED: { retryable: false, httpStatus: 400, summary: 'The batch ends before its end.' },
  ERR_BATCH_MAGIC: { retryable: false, httpStatus: 400, summary: 'The bytes are not a batch.' },
  ERR_BATCH_VERSION: { retryable: false, httpStatus: 422, summary: 'The batch has a wire version that this program does not know.' },
  ERR_BATCH_CHECKSUM: { retryable: false, httpStatus: 400, summary: 'The checksum of the batch does not match its bytes.' },
  ERR_BATCH_TOO_LARGE: { retryable: false, httpStatus: 413, summary: 'The batch is above a limit of the wire format.' },
  ERR_BATCH_MALFORMED: { retryable: false, httpStatus: 400, summary: 'The batch has a right checksum and a wrong content.' },
  ERR_BATCH_COMPRESSION: { retryable: false, httpStatus: 422, summary: 'The compression is not available on this machine.' },
  ERR_BATCH_CONTENT: { retryable: false, httpStatus: 500, summary: 'The content cannot stand in a batch.' },
  // gateway journal
  ERR_SERIES_LIMIT: { retryable: false, httpStatus: 507, summary: 'The gateway knows as many series as it is allowed to.' },
  ERR_SERIES_NAME: { retryable: false, httpStatus: 422, summary: 'A device, metric or tag set is not a name that a series can have.' },
  ERR_JOURNAL_DAMAGED: { retryable: false, httpStatus: 500, summary: 'A stored journal row or batch does not fit its checksum.' },
  ERR_JOURNAL_VERSION: { retryable: false, httpStatus: 500, summary: 'The journal was written by a newer version of the gateway.' },
  ERR_JOURNAL_LOCKED: { retryable: true, httpStatus: 500, summary: 'Another process has the journal open.' },
  ERR_JOURNAL_UNAVAILABLE: {
    retryable: true,
    httpStatus: 503,
    summary: 'The journal cannot be written at the moment (disk full or failing).',
  },
  ERR_JOURNAL_BUSY: { retryable: true, httpStatus: 503, summary: 'More waits for the journal than is allowed.' },
  ERR_JOURNAL_FULL: { retryable: true, httpStatus: 503, summary: 'The buffer is full and its policy is to reject.' },
  ERR_JOURNAL_MESSAGE: { retryable: false, httpStatus: 422, summary: 'This message alone cannot be stored; the others of its group were.' },
  ERR_JOURNAL_CLOSED: { retryable: true, httpStatus: 503, summary: 'The journal is closed: the gateway is stopping.' },
  // windows
  ERR_WINDOW_FUNCTION: { retryable: false, httpStatus: 400, summary: 'There is no aggregate function of this name.' },
  ERR_WINDOW_GROUPS_FULL: {
    retryable: true,
    httpStatus: 503,
    summary: 'The hub has no room for more series until its windows are flushed.',
  },
  ERR_WINDOW_STATE_FULL: {
    retryable: true,
    httpStatus: 503,
    summary: 'The open windows are at their memory bound until they are flushed.',
  },
  // parquet
  ERR_PARQUET_VALUE_TOO_LARGE: { retryable: false, httpStatus: 500, summary: 'A value is too large for a Parquet page.' },
  ERR_PARQUET_INVALID: { retryable: false, httpStatus: 500, summary: 'A Parquet file is damaged.' },
  ERR_PARQUET_UNSUPPORTED: {
    retryable: false,
    httpStatus: 500,
    summary: 'A Parquet file is made in a way that is not read here (codec, encoding, type of a column, too many rows).',
  },
  // simulator
  ERR_SIM_LEDGER_READ: { retryable: false, httpStatus: 500, summary: 'The ledger is missing, damaged or of another version.' },
  ERR_SIM_LEDGER_WRITE: { retryable: true, httpStatus: 500, summary: 'The ledger cannot be written.' },
  ERR_SIM_LEDGER_MISMATCH: {
    retryable: false,
    httpStatus: 500,
    summary: 'The regenerated readings are not those that the ledger describes.',
  },
  ERR_SIM_LAKE: { retryable: true, httpStatus: 500, summary: 'The lake cannot be read as Delta tables.' },
  ERR_SIM_HUB: { retryable: true, httpStatus: 500, summary: 'The hub does not answer as its API says.' },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

export class SluiceError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'SluiceError';
    this.code = code;
  }

  get kind(): ErrorKind {
    return ERRORS[this.code];
  }
}

export function isSluiceError(error: unknown, code?: ErrorCode): error is SluiceError {
  return error instanceof SluiceError && (code === undefined || error.code === code);
}

/** A message for logs and answers from whatever was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
