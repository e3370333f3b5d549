/** A value without quotes or type: the whole payload of a topic, or a cell of a table. */
import { SluiceError } from '../../shared/errors.ts';
import { parseJson } from './json-text.ts';
import type { ReadingWriter } from './reading-writer.ts';
import type { MetricNode, SeriesScope } from './series-scope.ts';

// No digit can be matched in two ways: on hostile input the time must stay linear.
const PLAIN_NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/;
const PLAIN_INTEGER = /^[+-]?\d+$/;
const NOT_FINITE = /^[+-]?(nan|inf(inity)?)$/i;

/**
 * @param asText true: text whatever it is; false: a number or nothing; null: what it looks like
 * @throws SluiceError ERR_DECODE_VALUE, ERR_DECODE_SYNTAX
 */
export function writeBareValue(
  writer: ReadingWriter,
  scope: SeriesScope,
  metric: MetricNode,
  timeUs: number,
  text: string,
  asText: boolean | null,
): void {
  if (asText === true) return writer.text(scope, metric, timeUs, text);
  const token = text.trim();
  if (PLAIN_INTEGER.test(token)) return writer.integer(scope, metric, timeUs, token.replace(/^\+/, ''));
  if (PLAIN_NUMBER.test(token)) return writer.value(scope, metric, timeUs, Number(token), 0);
  if (token === 'true' || token === 'false') return writer.value(scope, metric, timeUs, token === 'true', 0);
  if (NOT_FINITE.test(token))
    return writer.problem('ERR_DECODE_VALUE', `${token} is not a finite number`, scope.device, metric.name, timeUs);
  if (asText === false) throw new SluiceError('ERR_DECODE_VALUE', `${JSON.stringify(token.slice(0, 40))} is not a number`);
  if (token === 'null') return;
  if (token.startsWith('"')) return writer.value(scope, metric, timeUs, parseJson(Buffer.from(text)), 0);
  writer.text(scope, metric, timeUs, text);
}
