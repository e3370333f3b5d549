import { SluiceError } from '../../shared/errors.ts';
import { NAME_BYTES_MAX, canonicalTags } from '../../shared/reading.ts';
import { TAGS_BYTES_MAX } from './limits.ts';

// C0, DEL and C1 controls break terminals, CSV and logs; lone surrogates have no UTF-8.
const UNUSABLE = /\p{Control}|\p{Surrogate}/u;

/** null, or why the name of a device, metric or tag cannot be used. */
export function nameFault(name: string): string | null {
  if (name.length === 0) return 'it is empty';
  // A UTF-16 unit is at most three bytes of UTF-8: short names need no count.
  if (name.length * 3 > NAME_BYTES_MAX) {
    const bytes = Buffer.byteLength(name);
    if (bytes > NAME_BYTES_MAX) return `it has ${bytes} bytes, at most ${NAME_BYTES_MAX} are allowed`;
  }
  return UNUSABLE.test(name) ? 'it has control characters' : null;
}

/** @throws SluiceError ERR_DECODE_NAME */
export function checkName(what: 'device' | 'metric' | 'tag', name: string): void {
  const fault = nameFault(name);
  if (fault !== null) throw new SluiceError('ERR_DECODE_NAME', `${what} name ${JSON.stringify(name.slice(0, 40))}: ${fault}`);
}

/**
 * Tags as `Series.tags` wants them.
 *
 * @throws SluiceError ERR_DECODE_NAME for an unusable key or value, ERR_DECODE_TOO_MANY beyond TAGS_BYTES_MAX
 */
export function checkedTags(tags: Readonly<Record<string, string>>): string {
  for (const key of Object.keys(tags)) {
    checkName('tag', key);
    checkName('tag', tags[key]);
  }
  const canonical = canonicalTags(tags);
  const bytes = Buffer.byteLength(canonical);
  if (bytes > TAGS_BYTES_MAX)
    throw new SluiceError('ERR_DECODE_TOO_MANY', `the tags have ${bytes} bytes, at most ${TAGS_BYTES_MAX} are allowed`);
  return canonical;
}
