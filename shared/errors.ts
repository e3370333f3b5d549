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
