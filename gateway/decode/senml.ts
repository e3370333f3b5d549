/**
 * SenML in JSON [RFC 8428] and its records in MessagePack.
 *
 * Names: where the topic or the request names the device, `n` is the metric and a base name that says more than the
 * device does becomes the tag `bn`; otherwise the base name is the device (without the separator at its end), or what
 * stands before the last separator of the name. Units are not kept: a reading has none in this product.
 */
import { SluiceError } from '../../shared/errors.ts';
import { checkedTags } from './names.ts';
import type { MetricNode, SeriesScope } from './series-scope.ts';
import { isEntryFault, isFields, type Fields, type ShapeContext } from './shape-context.ts';

const VERSION_MAX = 10; // RFC 8428, 4.4
/** Smaller times are relative to now [RFC 8428, 4.5.3]. */
const RELATIVE_SECONDS_MAX = 2 ** 28;
const TIME_US_MAX = 2 ** 52 - 1;
const RECORD_FIELDS = ['v', 'vs', 'vb', 'vd', 's', 'bv', 'bs', 'bt', 'bu', 'bver'];
const NAME = /^[A-Za-z0-9][A-Za-z0-9\-:./_]*$/;
/** Device and metric are bounded one by one; this bounds the work of splitting them. */
const NAME_CHARS_MAX = 1_024;
const SEPARATOR_AT_END = /[-:./_]+$/;

interface BaseFields {
  bn: string;
  bt: number;
  bv: number;
  bs: number;
}

export function looksLikeSenml(value: readonly unknown[]): boolean {
  const first = value[0];
  if (!isFields(first)) return false;
  if (typeof first['bn'] === 'string') return true;
  return typeof first['n'] === 'string' && RECORD_FIELDS.some((field) => Object.hasOwn(first, field));
}

/** @throws SluiceError ERR_DECODE_SHAPE for a version that is not known; faults of a record are problems of that record */
export function decodeSenml(context: ShapeContext, pack: readonly unknown[]): void {
  const base: BaseFields = { bn: '', bt: 0, bv: 0, bs: 0 };
  for (let index = 0; index < pack.length; index++) {
    const record = pack[index];
    context.writer.beginEntry(index);
    try {
      if (!isFields(record)) throw new SluiceError('ERR_DECODE_SHAPE', 'it is not an object');
      readBase(base, record);
      decodeRecord(context, base, record);
    } catch (error) {
      if (!isEntryFault(error)) throw error;
      context.writer.problem(error.code, `SenML record ${index}: ${error.message}`, context.scope?.device ?? null, null, NaN);
    }
  }
}

function optional(record: Fields, key: string, otherwise: number): number {
  const value = Object.hasOwn(record, key) ? record[key] : undefined;
  if (value === undefined) return otherwise;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new SluiceError('ERR_DECODE_SHAPE', `"${key}" is not a finite number`);
  return value;
}

function optionalText(record: Fields, key: string, otherwise: string): string {
  const value = Object.hasOwn(record, key) ? record[key] : undefined;
  if (value === undefined) return otherwise;
  if (typeof value !== 'string') throw new SluiceError('ERR_DECODE_SHAPE', `"${key}" is not a string`);
  return value;
}

function readBase(base: BaseFields, record: Fields): void {
  const version = optional(record, 'bver', VERSION_MAX);
  if (version > VERSION_MAX) throw new SluiceError('ERR_DECODE_SYNTAX', `SenML version ${version} is not known, at most ${VERSION_MAX} is`);
  base.bn = optionalText(record, 'bn', base.bn);
  base.bt = optional(record, 'bt', base.bt);
  base.bv = optional(record, 'bv', base.bv);
  base.bs = optional(record, 'bs', base.bs);
}

function decodeRecord(context: ShapeContext, base: BaseFields, record: Fields): void {
  for (const key in record) {
    // [RFC 8428, 4.4]: a label that ends with _ must be understood or the record refused.
    if (key.endsWith('_')) throw new SluiceError('ERR_DECODE_SHAPE', `the extension "${key.slice(0, 40)}" must be understood and is not`);
  }
  const hasSum = Object.hasOwn(record, 's');
  if (!hasSum && !['v', 'vs', 'vb', 'vd'].some((key) => Object.hasOwn(record, key))) return; // base fields only
  const { writer } = context;
  const timeUs = recordTime(base.bt + optional(record, 't', 0), writer.arrivalUs);
  const [scope, node] = recordSeries(context, base.bn, optionalText(record, 'n', ''));
  const value = record['v'];
  if (typeof value === 'bigint' && base.bv === 0) writer.value(scope, node, timeUs, value, 0);
  else if (value !== undefined) writer.value(scope, node, timeUs, valueOf(record, value) + base.bv, 0);
  else if (typeof record['vb'] === 'boolean') writer.value(scope, node, timeUs, record['vb'], 0);
  else if (typeof record['vs'] === 'string') writer.text(scope, node, timeUs, record['vs']);
  else if (typeof record['vd'] === 'string') writer.text(scope, node, timeUs, record['vd']);
  else if (!hasSum) throw new SluiceError('ERR_DECODE_SHAPE', 'its value is not of the type that its label says');
  if (hasSum) writer.field(scope, node, 'sum', timeUs, optional(record, 's', 0) + base.bs, 0);
}

function valueOf(record: Fields, value: unknown): number {
  // MessagePack can carry NaN; the writer makes it an exception of this metric alone.
  return typeof value === 'number' ? value : optional(record, 'v', 0);
}

function recordTime(seconds: number, arrivalUs: number): number {
  if (seconds === 0) return NaN;
  const us = Math.round(seconds * 1_000_000) + (Math.abs(seconds) < RELATIVE_SECONDS_MAX ? arrivalUs : 0);
  if (!(Math.abs(us) <= TIME_US_MAX)) throw new SluiceError('ERR_DECODE_TIME', `time ${seconds} s is outside the years 1827 to 2112`);
  return us;
}

function recordSeries(context: ShapeContext, baseName: string, name: string): [SeriesScope, MetricNode] {
  const { scope, scopes, metric, writer } = context;
  const whole = baseName + name;
  if (whole.length > NAME_CHARS_MAX || !NAME.test(whole))
    throw new SluiceError('ERR_DECODE_NAME', `the name ${JSON.stringify(whole.slice(0, 60))} is not one of SenML`);
  let owner = baseName.replace(SEPARATOR_AT_END, '');
  let rest = name;
  // With the device known, a separator in the name is part of the metric: energy_wh, not wh of energy.
  if (rest === '' || (owner === '' && scope === null)) {
    const split = /^(.*?)[-:./_]+([^-:./_]+)$/.exec(whole);
    owner = split?.[1] ?? '';
    rest = split?.[2] ?? whole;
  }
  if (scope === null) {
    if (owner === '') throw new SluiceError('ERR_DECODE_DEVICE', `the name ${whole.slice(0, 60)} has no part that names the device`);
    writer.permit(owner);
    const own = scopes.scope(owner, '');
    return [own, scopes.child(own.root, rest)];
  }
  if (metric !== null && whole === '') return [scope, metric];
  if (owner === '' || owner === scope.device || owner.endsWith(`:${scope.device}`) || owner.endsWith(`/${scope.device}`)) {
    return [scope, scopes.child(metric ?? scope.root, owner === '' ? whole : rest)];
  }
  const tags: Record<string, string> = scope.tags === '' ? {} : (JSON.parse(scope.tags) as Record<string, string>);
  const tagged = scopes.scope(scope.device, checkedTags({ ...tags, bn: owner }));
  return [tagged, scopes.child(metric === null ? tagged.root : scopes.child(tagged.root, metric.name), rest)];
}
