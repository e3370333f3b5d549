/**
 * Bodies of requests, read from the socket's own stream and bounded at every step: announced length, received length,
 * length after decompression, and the sum over all requests at a time.
 */
import type { IncomingMessage } from 'node:http';
import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate } from 'node:zlib';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { unsnappy } from './snappy.ts';

const DECOMPRESS = {
  gzip: promisify(gunzip),
  'x-gzip': promisify(gunzip),
  deflate: promisify(inflate),
  br: promisify(brotliDecompress),
} as const;

/** Bytes of bodies that may be in memory at a time; a request takes its share before it is read. */
export class BodyBudget {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** @throws SluiceError ERR_HTTP_UNAVAILABLE */
  take(bytes: number): void {
    if (this.#bytes + bytes > this.#bytesMax) {
      throw new SluiceError(
        'ERR_HTTP_UNAVAILABLE',
        `bodies of ${this.#bytes} bytes are being read, ${bytes} more are asked, ${this.#bytesMax} are allowed`,
      );
    }
    this.#bytes += bytes;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
  }
}

function tooLarge(bytes: number | string, bytesMax: number): SluiceError {
  return new SluiceError('ERR_HTTP_BODY_TOO_LARGE', `the body has ${bytes} bytes, at most ${bytesMax} are allowed (http.bodyBytesMax)`);
}

/**
 * Reads a body and undoes its Content-Encoding, then hands it to `use`; the budget is held until that is done.
 *
 * @throws SluiceError ERR_HTTP_BODY_TOO_LARGE, ERR_HTTP_UNSUPPORTED_MEDIA, ERR_HTTP_UNAVAILABLE, ERR_HTTP_PARAMETER (cut or damaged)
 */
export async function withBody<T>(
  incoming: IncomingMessage,
  bytesMax: number,
  budget: BodyBudget,
  use: (body: Buffer) => Promise<T>,
): Promise<T> {
  let taken = 0;
  const take = (bytes: number): void => {
    budget.take(bytes);
    taken += bytes;
  };
  try {
    const announced = Number(incoming.headers['content-length'] ?? 0);
    if (announced > bytesMax) throw tooLarge(announced, bytesMax);
    take(announced);
    const received = await receive(incoming, bytesMax, (total) => {
      if (total > taken) take(total - taken);
    });
    return await use(await decode(received, incoming.headers['content-encoding'] ?? 'identity', bytesMax, take));
  } finally {
    budget.give(taken);
  }
}

async function receive(incoming: IncomingMessage, bytesMax: number, grown: (total: number) => void): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let total = 0;
  try {
    for await (const chunk of incoming as AsyncIterable<Buffer>) {
      total += chunk.length;
      if (total > bytesMax) throw tooLarge(`more than ${total}`, bytesMax);
      grown(total);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw new SluiceError('ERR_HTTP_PARAMETER', `the body is cut after ${total} bytes: ${errorMessage(cause)}`, { cause });
  }
  return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
}

async function decode(received: Buffer, encoding: string, bytesMax: number, take: (bytes: number) => void): Promise<Buffer> {
  const name = encoding.trim().toLowerCase();
  if (name === '' || name === 'identity') return received;
  if (name === 'snappy') {
    const body = await unsnappy(received, bytesMax);
    take(body.length);
    return body;
  }
  const decompress = Object.hasOwn(DECOMPRESS, name) ? DECOMPRESS[name as keyof typeof DECOMPRESS] : undefined;
  if (decompress === undefined)
    throw new SluiceError(
      'ERR_HTTP_UNSUPPORTED_MEDIA',
      `content encoding ${JSON.stringify(encoding.slice(0, 40))}; gzip, deflate, br and snappy are understood`,
    );
  try {
    const body = await decompress(received, { maxOutputLength: bytesMax });
    take(body.length);
    return body;
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
      throw tooLarge(`after decompression more than ${bytesMax}`, bytesMax);
    throw new SluiceError('ERR_HTTP_PARAMETER', `the body is not ${name}: ${errorMessage(cause)}`, { cause });
  }
}
