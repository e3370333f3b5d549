/** Which form an answer takes: `format=`, else what the Accept header likes best of what there is. */
import { FORMAT_TYPES } from '../query/result-formats.ts';
import { ANSWER_FORMATS, type AnswerFormat } from '../query/sql-api.ts';

const BY_TYPE: ReadonlyMap<string, AnswerFormat> = new Map<string, AnswerFormat>([
  ...ANSWER_FORMATS.map((format) => [FORMAT_TYPES[format].split(';')[0], format] as const),
  ['application/jsonl', 'ndjson'],
  ['application/vnd.apache.arrow.file', 'arrow'],
  ['*/*', 'json'],
  ['application/*', 'json'],
  ['text/*', 'csv'],
]);

/** Types that nobody here makes are passed over; JSON where nothing else fits (RFC 9110, 12.5.1 allows it). */
export function acceptedFormat(accept: string | undefined): AnswerFormat {
  let best: { format: AnswerFormat; quality: number } | null = null;
  for (const part of (accept ?? '').slice(0, 2_000).split(',')) {
    const [type, ...parameters] = part.split(';').map((text) => text.trim().toLowerCase());
    const format = BY_TYPE.get(type);
    if (format === undefined) continue;
    const quality = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1);
    if (quality > (best?.quality ?? 0)) best = { format, quality };
  }
  return best?.format ?? 'json';
}
