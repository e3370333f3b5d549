/** `sluice-gateway tail`: reads `/v1/messages` of a running gateway until it ends or is told to. */
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { filterFault } from './topic-filter.ts';
import type { SeenMessage } from './seen-message.ts';

export interface TailOptions {
  /** Address of the gateway's HTTP listener. */
  readonly url: string;
  readonly filter: string;
  /** NAME:SECRET or the secret alone; null: none, which is enough on the gateway's own machine. */
  readonly token: string | null;
  readonly signal: AbortSignal;
  readonly onMessage: (message: SeenMessage) => void;
  readonly onLeftOut: (count: number) => void;
}

/** A message shows at most 32 readings of 64 kB texts: what is longer is not from a gateway. */
const EVENT_CHARS_MAX = 8 * 1024 * 1024;

/** @throws SluiceError ERR_TAIL_CONNECT, ERR_HTTP_PARAMETER */
export async function followMessages(options: TailOptions): Promise<void> {
  const { url, filter, token, signal } = options;
  const fault = filterFault(filter);
  if (fault !== null) throw new SluiceError('ERR_HTTP_PARAMETER', `--topic ${JSON.stringify(filter)}: ${fault}`);
  const response = await connect(url, filter, token, signal);
  if (response === null) return;
  const decoder = new TextDecoder();
  let text = '';
  try {
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      text += decoder.decode(chunk, { stream: true });
      let end = text.indexOf('\n\n');
      for (; end >= 0; end = text.indexOf('\n\n')) {
        dispatch(text.slice(0, end), options);
        text = text.slice(end + 2);
      }
      if (text.length > EVENT_CHARS_MAX) throw new SluiceError('ERR_TAIL_CONNECT', `${url} sends something else than a gateway does`);
    }
  } catch (cause) {
    if (signal.aborted) return;
    if (cause instanceof SluiceError) throw cause;
    throw new SluiceError('ERR_TAIL_CONNECT', `the connection to ${url} broke: ${errorMessage(cause)}`, { cause });
  }
  throw new SluiceError('ERR_TAIL_CONNECT', `the gateway at ${url} ended the connection`);
}

/** null: told to stop before there was an answer. */
async function connect(url: string, filter: string, token: string | null, signal: AbortSignal): Promise<Response | null> {
  const address = new URL('v1/messages', url.endsWith('/') ? url : `${url}/`);
  address.searchParams.set('topic', filter);
  const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` };
  let response: Response;
  try {
    response = await fetch(address, { headers, signal });
  } catch (cause) {
    if (signal.aborted) return null;
    const why = errorMessage(cause instanceof Error && cause.cause !== undefined ? cause.cause : cause);
    throw new SluiceError('ERR_TAIL_CONNECT', `no gateway answers at ${url} (${why}); is it running, and is this its HTTP address?`, {
      cause,
    });
  }
  if (response.ok) return response;
  const problem = (await response.json().catch(() => null)) as { detail?: unknown } | null;
  const detail = typeof problem?.detail === 'string' ? `: ${problem.detail}` : '';
  const hint = response.status === 401 ? '; from another machine it takes --token NAME:SECRET' : '';
  throw new SluiceError('ERR_TAIL_CONNECT', `${url} answers ${response.status}${detail}${hint}`);
}

function dispatch(event: string, options: TailOptions): void {
  let name = '';
  let data = '';
  for (const line of event.split('\n')) {
    if (line.startsWith('event: ')) name = line.slice(7);
    else if (line.startsWith('data: ')) data += line.slice(6);
  }
  if (name === 'message') options.onMessage(JSON.parse(data) as SeenMessage);
  else if (name === 'left_out') options.onLeftOut((JSON.parse(data) as { count: number }).count);
}
