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

/** `format=` decides, then the Accept header. */
export function answerFormat(format: AnswerFormat | undefined, accept: string | undefined): AnswerFormat {
  return format ?? acceptedFormat(accept);
}

/** Types that nobody here makes are passed over; JSON where nothing else fits (RFC 9110, 12.5.1 allows it). */
function acceptedFormat(accept: string | undefined): AnswerFormat {
  let best: AnswerFormat = 'json';
  let bestQuality = 0;
  for (const part of (accept ?? '').slice(0, 2_000).split(',')) {
    const [type, ...parameters] = part.split(';').map((text) => text.trim().toLowerCase());
    const format = BY_TYPE.get(type);
    if (format === undefined) continue;
    const quality = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1);
    const isBetter = quality > bestQuality || (quality === bestQuality && format === 'json');
    if (isBetter) {
      best = format;
      bestQuality = quality;
    }
  }
  return best;
}
