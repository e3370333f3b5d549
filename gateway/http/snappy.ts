/** Snappy's block format, as Prometheus' remote write compresses, with its announced length bounded before anything is allocated. */
import { snappyUncompress } from 'hyparquet/src/snappy.js';
import { SluiceError, errorMessage } from '../../shared/errors.ts';

/** A copy element of 3 bytes stands for at most 64: what announces more than that is not snappy. */
const RATIO_MAX = 64 / 3;

/** @throws SluiceError ERR_HTTP_BODY_TOO_LARGE, ERR_HTTP_PARAMETER */
export function unsnappy(compressed: Buffer, bytesMax: number): Buffer {
  const length = announcedLength(compressed);
  if (length > bytesMax)
    throw new SluiceError(
      'ERR_HTTP_BODY_TOO_LARGE',
      `the body has ${length} bytes after decompression, at most ${bytesMax} are allowed (http.bodyBytesMax)`,
    );
  if (length > compressed.length * RATIO_MAX) throw notSnappy(`${compressed.length} bytes cannot stand for ${length}`);
  const body = Buffer.allocUnsafe(length);
  try {
    snappyUncompress(compressed, body);
  } catch (cause) {
    throw notSnappy(errorMessage(cause), cause);
  }
  return body;
}

function announcedLength(compressed: Buffer): number {
  let length = 0;
  for (let index = 0; index < 5; index++) {
    const byte = compressed[index];
    if (byte === undefined) break;
    length += (byte & 0x7f) * 128 ** index;
    if (byte < 0x80) return length;
  }
  throw notSnappy('there is no length at its start');
}

function notSnappy(why: string, cause?: unknown): SluiceError {
  return new SluiceError('ERR_HTTP_PARAMETER', `the body is not snappy (block format): ${why}`, { cause });
}
