/** Query parameters: the building blocks of every route's schema, and how a wrong one is named. */
import { z } from '@hono/zod-openapi';
import { SluiceError, type ErrorCode } from '../../shared/errors.ts';
import { EVENT_TIME_AHEAD_MAX_US, NAME_BYTES_MAX } from '../../shared/reading.ts';
import { ANSWER_FORMATS } from '../query/sql-api.ts';
import { nearestName } from './nearest-name.ts';
import { formatTime, parseDuration, parseTime, resolveTime, TIME_HELP, timeFault, type TimeExpression } from './times.ts';

/** A longer list does not fit into a URL anyway (16 KB of headers). */
const LIST_MAX = 1_000;
const SHOWN_CHARACTERS = 80;

export interface ParameterProblem {
  readonly parameter: string;
  readonly detail: string;
}

/** One or more query parameters are wrong; all are named. */
export class ParameterError extends SluiceError {
  readonly problems: readonly ParameterProblem[];

  constructor(problems: readonly ParameterProblem[], code: ErrorCode = 'ERR_HTTP_PARAMETER') {
    super(code, problems.map(({ parameter, detail }) => `${parameter}: ${detail}`).join('; '));
    this.problems = problems;
  }
}

export function wrongParameter(parameter: string, detail: string): ParameterError {
  return new ParameterError([{ parameter, detail }]);
}

export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
}

/** What zod found, as problems with the parameters' names. @param known the names that the route has @param whole what has them */
export function parameterError(error: z.ZodError, known: readonly string[], whole: 'query' | 'body' = 'query'): ParameterError {
  const problems = error.issues.flatMap((issue): ParameterProblem[] => {
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.slice(0, 10).map((key) => ({ parameter: key.slice(0, SHOWN_CHARACTERS), detail: unknownName(key, known) }));
    }
    return [{ parameter: issue.path.map(String).join('.') || whole, detail: issue.message }];
  });
  return new ParameterError(problems);
}

function unknownName(given: string, known: readonly string[]): string {
  if (known.length === 0) return 'unknown; there are no parameters here';
  const meant = nearestName(given, known);
  return meant === null ? `unknown; there are ${known.join(', ')}` : `unknown, did you mean ${meant}? There are ${known.join(', ')}`;
}

function repeated(issue: { readonly input?: unknown }): string {
  return Array.isArray(issue.input) ? 'is given more than once' : 'is not a text';
}

/** @param example of a request that is answered as it stands */
export function timeParameter(description: string, example: 'now-1h' | 'now' = 'now-1h') {
  return z
    .string({ error: repeated })
    .transform((text, context): TimeExpression => {
      const time = parseTime(text);
      if (time !== null) return time;
      context.addIssue({ code: 'custom', message: `${shown(text)} ${timeFault(text.slice(0, 100))}` });
      return z.NEVER;
    })
    .optional()
    .openapi({ type: 'string', description: `${description} (${TIME_HELP})`, example });
}

/** `a,b` and `x=a&x=b` are the same list; `\,` is a comma in a name. */
export function splitList(text: string): string[] {
  const parts: string[] = [];
  let part = '';
  for (let index = 0; index < text.length; index++) {
    const character = text[index];
    const next = text[index + 1];
    if (character === '\\' && (next === ',' || next === '\\')) {
      part += next;
      index++;
    } else if (character === ',') {
      parts.push(part);
      part = '';
    } else {
      part += character;
    }
  }
  return [...parts, part];
}

/** @param check null: the name is right; otherwise why not */
export function listParameter(description: string, check: (name: string) => string | null = checkName) {
  return z
    .union([z.string(), z.array(z.string())])
    .transform((given, context): readonly string[] => {
      const names = [...new Set((typeof given === 'string' ? [given] : given).flatMap(splitList))];
      const wrong = names.map(check).find((message) => message !== null);
      const message = names.length > LIST_MAX ? `${names.length} names, at most ${LIST_MAX} are allowed` : wrong;
      if (message === undefined) return names;
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    })
    .optional()
    .openapi({
      type: 'array',
      items: { type: 'string' },
      description: `${description}; a comma list, a repeated parameter or both (\\, is a comma in a name)`,
      param: { style: 'form', explode: false },
    });
}

function checkName(name: string): string | null {
  if (name === '') return 'a name is empty';
  const bytes = Buffer.byteLength(name);
  return bytes > NAME_BYTES_MAX ? `a name has ${bytes} bytes, allowed ${NAME_BYTES_MAX}` : null;
}

export function limitParameter(initial: number, max: number) {
  return integerParameter(max, 'Rows per page')
    .transform((value) => value ?? initial)
    .openapi({ type: 'integer', minimum: 1, maximum: max, default: initial, description: 'Rows per page' });
}

/** @param hint what else would be right, after the list of choices */
export function choiceParameter<const T extends readonly [string, ...string[]]>(choices: T, description: string, hint = '') {
  return z
    .enum(choices, {
      error: (issue) => (Array.isArray(issue.input) ? repeated(issue) : `${shown(issue.input)}, there are ${choices.join(', ')}${hint}`),
    })
    .optional()
    .openapi({ type: 'string', enum: [...choices], description });
}

export const formatParameter = choiceParameter(ANSWER_FORMATS, 'Form of the answer; without it the Accept header decides');

/** Keys and values as names: `site:berlin,site:bonn,line:*`. */
export const tagParameter = listParameter('Only series with these tags, key:value; several values of one key are alternatives', (text) =>
  /^[^:]+:./s.test(text) ? checkName(text) : `${shown(text)} is not key:value`,
);

/** `30s`, `5m`, `1h`. */
export function durationParameter(description: string) {
  return z
    .string({ error: repeated })
    .transform((text, context): number => {
      const ms = parseDuration(text);
      if (ms !== null) return ms * 1000;
      context.addIssue({ code: 'custom', message: `${shown(text)} is not a duration like 30s, 5m, 1h30m, 1d or 1w` });
      return z.NEVER;
    })
    .optional()
    .openapi({ type: 'string', description, example: '5m' });
}

export function integerParameter(max: number, description: string) {
  return z
    .string({ error: repeated })
    .transform((text, context): number => {
      const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : NaN;
      if (value >= 1 && value <= max) return value;
      context.addIssue({ code: 'custom', message: `${shown(text)}, a whole number from 1 to ${max} is allowed` });
      return z.NEVER;
    })
    .optional()
    .openapi({ type: 'integer', minimum: 1, maximum: max, description });
}

/** An opaque text that the page before gave. @param schema of the array inside */
export function cursorParameter<S extends z.ZodType>(schema: S) {
  return z
    .string({ error: repeated })
    .transform((text, context): z.output<S> => {
      const parsed = schema.safeParse(decodeCursor(text));
      if (parsed.success) return parsed.data;
      context.addIssue({ code: 'custom', message: 'not a next_cursor of this route' });
      return z.NEVER;
    })
    .optional()
    .openapi({ type: 'string', description: 'next_cursor of the page before; keep the other parameters as they were' });
}

export function encodeCursor(parts: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

function decodeCursor(text: string): unknown {
  try {
    return JSON.parse(Buffer.from(text, 'base64url').toString('utf8')) as unknown;
  } catch {
    return null; // refused by the schema, with the parameter's name
  }
}

/**
 * A range of event times, half-open; `to` defaults to the latest event time that a gateway lets pass now.
 *
 * @throws ParameterError when it is empty
 */
export function timeRange(
  query: { readonly from?: TimeExpression; readonly to?: TimeExpression },
  nowUs: number,
  defaultUs: number,
): { fromUs: number; toUs: number } {
  const toUs = query.to === undefined ? nowUs + EVENT_TIME_AHEAD_MAX_US : resolveTime(query.to, nowUs);
  const fromUs = query.from === undefined ? Math.max(0, Math.min(nowUs, toUs) - defaultUs) : resolveTime(query.from, nowUs);
  if (fromUs >= toUs) throw wrongParameter('from', `${formatTime(fromUs)} is not before to, ${formatTime(toUs)}`);
  return { fromUs, toUs };
}
