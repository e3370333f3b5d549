/** POST of a JSON body, with a deadline for all of it; bounded in what it reads of the answer. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { VERSION } from '../../shared/version.ts';

/** Enough to say what is wrong. */
const ANSWER_BYTES_MAX = 500;

export interface PostAnswer {
  readonly status: number;
  /** The beginning of the body. */
  readonly text: string;
  /** null: it does not say. */
  readonly retryAfterMs: number | null;
}

/** Redirects are answers: a POST that follows one becomes a GET. @throws what node:http throws, AbortError, TimeoutError */
export function postJson(url: string, body: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<PostAnswer> {
  return new Promise((resolve, reject) => {
    const bytes = Buffer.from(body);
    const send = url.startsWith('https:') ? httpsRequest : httpRequest;
    const request = send(url, {
      method: 'POST',
      agent: false, // minutes lie between two requests: nothing is gained by an idle socket that dies meanwhile
      signal,
      headers: { 'user-agent': `sluice-hub/${VERSION}`, ...headers, 'content-type': 'application/json', 'content-length': bytes.length },
    });
    request.on('error', reject);
    request.on('response', (response) => {
      readStart(response).then((text) => {
        resolve({ status: response.statusCode ?? 0, text, retryAfterMs: retryAfterMs(response.headers['retry-after']) });
        response.destroy();
      }, reject);
    });
    request.end(bytes);
  });
}

async function readStart(response: IncomingMessage): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response as AsyncIterable<Uint8Array>) {
    parts.push(part);
    bytes += part.byteLength;
    if (bytes >= ANSWER_BYTES_MAX) break;
  }
  return Buffer.concat(parts).toString('utf8').slice(0, ANSWER_BYTES_MAX);
}

function retryAfterMs(header: string | undefined): number | null {
  return header !== undefined && /^[0-9]{1,6}$/.test(header) ? Number(header) * 1000 : null;
}
