/** Bodies of requests that change or ask something: JSON, bounded, and as their schema says. */
import type { z } from '@hono/zod-openapi';
import { SluiceError } from '../../shared/errors.ts';
import { checkedBody } from './body-errors.ts';
import { shown } from './parameters.ts';

/**
 * @param example of a right body, for whoever sends something else
 * @throws SluiceError ERR_HTTP_UNSUPPORTED_MEDIA, ERR_HTTP_BODY_TOO_LARGE, ERR_HTTP_PARAMETER
 */
export async function readBody<S extends z.ZodType>(schema: S, request: Request, bytesMax: number, example: string): Promise<z.output<S>> {
  return checkedBody(schema, await readJson(request, bytesMax, example));
}

async function readJson(request: Request, bytesMax: number, example: string): Promise<unknown> {
  // Anything but JSON could be sent by a form of a foreign page, without the browser asking first.
  const type = request.headers.get('content-type');
  if (!/^application\/json\b/i.test(type ?? ''))
    throw new SluiceError(
      'ERR_HTTP_UNSUPPORTED_MEDIA',
      `the header content-type is ${type === null ? 'missing' : shown(type)}: send \`content-type: application/json\` and ${example}`,
    );
  const encoding = request.headers.get('content-encoding');
  if (encoding !== null && encoding !== 'identity')
    throw new SluiceError('ERR_HTTP_UNSUPPORTED_MEDIA', `the body is encoded as ${shown(encoding)}: send it as it is`);
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of (request.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += part.byteLength;
    if (bytes > bytesMax) throw new SluiceError('ERR_HTTP_BODY_TOO_LARGE', `the body has more than ${bytesMax} bytes`);
    parts.push(part);
  }
  const text = Buffer.concat(parts).toString('utf8');
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new SluiceError('ERR_HTTP_PARAMETER', `the body is not JSON: ${shown(text)}; it has to be ${example}`, { cause });
  }
}
