/** HTTP errors as RFC 9457 problem+json. */
import { ERRORS, SluiceError, type ErrorCode } from './errors.ts';

export interface Problem {
  /** A stable name; docs/errors.md explains it. */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  /** May the same request succeed later, unchanged? */
  readonly retryable: boolean;
}

/** What a stranger may know of an error: everything of a SluiceError, nothing of another one (the log has it). */
export function problemOf(error: unknown): Problem {
  const known =
    error instanceof SluiceError
      ? error
      : new SluiceError('ERR_HTTP_INTERNAL', 'an unexpected error; the log of the server has the details', { cause: error });
  const kind = ERRORS[known.code];
  return {
    type: `urn:sluice:error:${known.code}`,
    title: kind.summary,
    status: kind.httpStatus,
    detail: known.message,
    code: known.code,
    retryable: kind.retryable,
  };
}

/** @param extensions further members of the answer [RFC 9457, 3.2] */
export function problemResponse(
  error: unknown,
  extensions: Readonly<Record<string, unknown>> = {},
  headers: Readonly<Record<string, string>> = {},
): Response {
  const problem = problemOf(error);
  const retryAfter: Record<string, string> = problem.status === 503 ? { 'retry-after': '1' } : {};
  return new Response(JSON.stringify({ ...problem, ...extensions }), {
    status: problem.status,
    headers: { 'content-type': 'application/problem+json', ...retryAfter, ...headers },
  });
}
