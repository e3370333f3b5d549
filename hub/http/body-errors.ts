/** What is wrong with a JSON body, in words that say what would be right. */
import { z } from '@hono/zod-openapi';
import { parameterError, shown, type ParameterError } from './parameters.ts';

type RawIssue = Parameters<z.core.$ZodErrorMap>[0];

const KINDS: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
  null: 'null',
};

/** A schema's own words stand before these. undefined: zod's. */
const wordsOf: z.core.$ZodErrorMap = (issue) => {
  const { code, input } = issue;
  if (code === 'invalid_type') {
    const kind = KINDS[issue.expected] ?? issue.expected;
    return input === undefined ? `is missing: ${kind} is needed` : `${shown(input)} is not ${kind}`;
  }
  if (code === 'invalid_value') return `${given(input)}, there are ${issue.values.map(String).join(', ')}`;
  if (code === 'too_small') return tooSmall(issue);
  if (code === 'too_big') return tooBig(issue);
  if (code === 'invalid_union' && 'discriminator' in issue && issue.discriminator !== undefined) {
    const choices: readonly unknown[] = Array.isArray(issue.options) ? issue.options : [];
    const value = (input as Readonly<Record<string, unknown>> | null | undefined)?.[issue.discriminator];
    return `${given(value)}, there are ${choices.map(String).join(', ')}`;
  }
  return undefined;
};

function given(input: unknown): string {
  return input === undefined ? 'is missing' : shown(input);
}

function tooSmall({ origin, minimum, inclusive, input }: Extract<RawIssue, { code: 'too_small' }>): string {
  if (origin === 'string') return minimum === 1 ? 'is empty' : `has less than ${minimum} characters`;
  if (origin === 'array' || origin === 'set')
    return minimum === 1 ? 'is an empty list: leave it out, or name one' : `has less than ${minimum} entries`;
  return `${shown(input)} is too small: ${inclusive === false ? 'more than' : 'at least'} ${minimum}`;
}

function tooBig({ origin, maximum, inclusive, input }: Extract<RawIssue, { code: 'too_big' }>): string {
  if (origin === 'string') return `has more than ${maximum} characters`;
  if (origin === 'array' || origin === 'set') return `has more than ${maximum} entries`;
  return `${shown(input)} is too large: ${inclusive === false ? 'less than' : 'at most'} ${maximum}`;
}

/** The members that an object of the schema may have; of a union those of the kind that the body says. */
function membersOf(schema: z.ZodType, body: unknown): readonly string[] {
  if (schema instanceof z.ZodObject) return Object.keys(schema.shape);
  if (!(schema instanceof z.ZodDiscriminatedUnion)) return [];
  const { discriminator } = schema.def;
  const kind = (body as Readonly<Record<string, unknown>>)[discriminator];
  for (const option of schema.options as readonly z.ZodType[]) {
    if (!(option instanceof z.ZodObject)) continue;
    const tag = option.shape[discriminator] as z.ZodType;
    if (tag.safeParse(kind).success) return Object.keys(option.shape);
  }
  return [];
}

/** @throws ParameterError with all that is wrong */
export function checkedBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const parsed = schema.safeParse(body, { error: wordsOf });
  if (parsed.success) return parsed.data;
  throw bodyError(parsed.error, schema, body);
}

function bodyError(error: z.ZodError, schema: z.ZodType, body: unknown): ParameterError {
  return parameterError(error, membersOf(schema, body), 'body');
}
