/** Errors of the API: problem+json, with the parameters that were wrong. */
import { z } from '@hono/zod-openapi';
import { problemResponse } from '../../shared/problem.ts';
import { ParameterError } from './parameters.ts';

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string().openapi({ description: 'docs/errors.md lists them' }),
    retryable: z.boolean(),
    errors: z.array(z.object({ parameter: z.string(), detail: z.string() })).optional(),
  })
  .openapi('Problem');

export function answerProblem(error: unknown): Response {
  if (error instanceof ParameterError) return problemResponse(error, { errors: error.problems });
  return problemResponse(error);
}

export const problemContent = { content: { 'application/problem+json': { schema: problemSchema } } };

/** What every route of /v1 may answer besides its own. */
export const PROBLEM_RESPONSES = {
  400: { description: 'A parameter is wrong; `errors` names all of them', ...problemContent },
  401: { description: 'No valid bearer token', ...problemContent },
  403: { description: 'The token does not allow reading', ...problemContent },
  422: { description: 'The query is too large: ask for less', ...problemContent },
  503: { description: 'Overloaded, starting or stopping: try again', ...problemContent },
  504: { description: 'The query took too long and was cancelled', ...problemContent },
} as const;

/** And every list. */
export const LIST_RESPONSES = {
  304: { description: 'Nothing has changed since the answer with the tag of If-None-Match' },
  ...PROBLEM_RESPONSES,
} as const;
