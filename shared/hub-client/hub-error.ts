/** What went wrong with a request: the hub's problem+json, or that there was no answer. */

export interface ParameterFault {
  readonly parameter: string;
  readonly detail: string;
}

export class HubError extends Error {
  /** 0: there was no answer. */
  readonly status: number;
  /** Of docs/errors.md; null: there was no answer, or not one of a hub. */
  readonly code: string | null;
  /** May the same request succeed later, unchanged? */
  readonly retryable: boolean;
  /** Parameters that were wrong, all of them. */
  readonly faults: readonly ParameterFault[];

  constructor(
    status: number,
    message: string,
    options: { code?: string | null; retryable?: boolean; faults?: readonly ParameterFault[]; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'HubError';
    this.status = status;
    this.code = options.code ?? null;
    this.retryable = options.retryable ?? (status === 0 || status === 502 || status === 503 || status === 504);
    this.faults = options.faults ?? [];
  }
}

export function isHubError(error: unknown): error is HubError {
  return error instanceof HubError;
}

/** From an answer that is not a success; its body is read. */
export async function errorOf(response: Response): Promise<HubError> {
  const text = await response.text().catch(() => '');
  const problem = problemIn(text);
  const { detail, code, retryable, errors } = problem;
  return new HubError(response.status, typeof detail === 'string' ? detail : `HTTP ${response.status}: ${text.slice(0, 200)}`, {
    code: typeof code === 'string' ? code : null,
    ...(typeof retryable === 'boolean' ? { retryable } : {}),
    faults: Array.isArray(errors) ? (errors as ParameterFault[]) : [],
  });
}

function problemIn(text: string): Readonly<Record<string, unknown>> {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {}; // a proxy's page: the status has to do
  }
}
