/**
 * The series that there are, with their labels, and which of them a selector means.
 *
 * Regular expressions are RE2's, as Prometheus' are: DuckDB matches the distinct values of a label, in linear time
 * whatever the expression; JavaScript's own engine never sees one.
 */
import { isSluiceError } from '../../shared/errors.ts';
import type { SeriesRow } from '../query/query-api.ts';
import type { Matcher } from './expression.ts';
import type { SampleReader } from './fetch-samples.ts';
import { seriesLabels, type Labels } from './labels.ts';
import { badQuery } from './literals.ts';

export interface CatalogueSeries {
  readonly gateway: string;
  readonly device: string;
  readonly metric: string;
  readonly tags: string | null;
  readonly labels: Labels;
  readonly firstTsUs: number;
  readonly lastTsUs: number;
}

/** Stands in no name (names have no control characters). */
const SEPARATOR = '\u0001';
const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;

export function catalogueOf(rows: readonly SeriesRow[]): CatalogueSeries[] {
  return rows.map(({ gateway, device, metric, tags, firstTsUs, lastTsUs }) => ({
    gateway,
    device,
    metric,
    tags,
    labels: seriesLabels(gateway, device, metric, tags),
    firstTsUs: firstTsUs ?? -Infinity,
    lastTsUs: lastTsUs ?? Infinity,
  }));
}

/** Of a row of the lake. */
export function seriesKey(gateway: string, device: string, metric: string, tags: string | null): string {
  return `${gateway}\u0000${device}\u0000${metric}\u0000${tags ?? ''}`;
}

/** `{"cpu.usage"}` and `{__name__="cpu.usage"}` mean the metric of that name. */
function labelOf({ label, operator, value }: Matcher): string {
  return label === '__name__' && operator === '=' && value !== '' && !METRIC_NAME.test(value) ? 'metric' : label;
}

/** @throws SluiceError ERR_PROMQL_INVALID for an expression that RE2 does not take, and where every matcher takes '' */
export async function selectSeries(
  reader: SampleReader,
  catalogue: readonly CatalogueSeries[],
  matchers: readonly Matcher[],
): Promise<CatalogueSeries[]> {
  let selected = [...catalogue];
  let isSelective = false;
  // What is cheap goes first, so that expressions see fewer values.
  for (const matcher of [...matchers].sort((a, b) => Number(a.operator.endsWith('~')) - Number(b.operator.endsWith('~')))) {
    const label = labelOf(matcher);
    const accepts = await acceptor(reader, matcher, new Set(['', ...selected.map(({ labels }) => labels.get(label) ?? '')]));
    isSelective ||= !accepts('');
    selected = selected.filter(({ labels }) => accepts(labels.get(label) ?? ''));
  }
  if (!isSelective) throw badQuery('vector selector must contain at least one non-empty matcher');
  return selected;
}

async function acceptor(
  reader: SampleReader,
  { operator, value }: Matcher,
  values: ReadonlySet<string>,
): Promise<(text: string) => boolean> {
  if (operator === '=') return (text) => text === value;
  if (operator === '!=') return (text) => text !== value;
  const matching = await matchingValues(reader, value, [...values]);
  return operator === '=~' ? (text) => matching.has(text) : (text) => !matching.has(text);
}

/** Those that the expression matches as a whole. */
async function matchingValues(reader: SampleReader, expression: string, values: readonly string[]): Promise<ReadonlySet<string>> {
  try {
    const columns = await reader.query(
      `SELECT value FROM (SELECT unnest(string_split($1, '${SEPARATOR}')) AS value) WHERE regexp_full_match(value, $2, 's')`,
      [values.join(SEPARATOR), expression],
    );
    return new Set((columns.get('value') ?? []) as string[]);
  } catch (error) {
    if (!isSluiceError(error, 'ERR_QUERY_FAILED')) throw error;
    throw badQuery(`the regular expression ${JSON.stringify(expression.slice(0, 100))} is not one of RE2: ${error.message}`);
  }
}
