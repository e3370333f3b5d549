/**
 * Who may read: with read or admin tokens in the lake whoever shows one, without any only this machine.
 *
 * Without tokens the name in the Host header has to be this machine's too: otherwise a page on the internet whose name
 * is made to resolve to 127.0.0.1 (DNS rebinding) could read through the browser of somebody who sits here.
 */
import type { Context, MiddlewareHandler } from 'hono';
import { SluiceError } from '../../shared/errors.ts';
import { isLoopback } from '../../shared/listen.ts';
import { bearerToken } from '../ingest/tokens.ts';
import { answerProblem } from './problems.ts';
import type { HubEnv, HubServices } from './service.ts';

type Tokens = HubServices['tokens'];

function fromThisMachine(c: Context<HubEnv>): boolean {
  const address = c.env?.incoming?.socket.remoteAddress;
  return address === undefined || isLoopback(address);
}

function hostName(c: Context<HubEnv>): string {
  try {
    return new URL(c.req.url).hostname.replace(/^\[(.*)\]$/, '$1');
  } catch {
    return ''; // no name is not this machine's name
  }
}

/** null: may read. */
async function refusal(tokens: Tokens, c: Context<HubEnv>): Promise<SluiceError | null> {
  if (!tokens.hasReaders) {
    if (!fromThisMachine(c))
      return new SluiceError(
        'ERR_HTTP_UNAUTHORIZED',
        'there is no read token, so only this machine may read; make one with `sluice-hub token create --read`',
      );
    if (isLoopback(hostName(c))) return null;
    return new SluiceError(
      'ERR_HTTP_FORBIDDEN',
      `without a read token only localhost may be asked for, not ${hostName(c).slice(0, 100)}; make one with \`sluice-hub token create --read\``,
    );
  }
  const record = await tokens.verify(bearerToken(c.req.header('authorization')));
  if (record === null)
    return new SluiceError(
      'ERR_HTTP_UNAUTHORIZED',
      'the bearer token is missing or unknown: send `Authorization: Bearer TOKEN` (sluice-hub token create --read)',
    );
  return record.kind === 'gateway' ? new SluiceError('ERR_HTTP_FORBIDDEN', 'a token of kind gateway may send, not read') : null;
}

/** Behind requireReader: whoever changes something shows a token of kind admin, where there are tokens at all. */
export function requireAdmin(tokens: Tokens): MiddlewareHandler<HubEnv> {
  return async (c, next) => {
    if (!tokens.hasReaders) return next();
    const record = await tokens.verify(bearerToken(c.req.header('authorization')));
    if (record?.kind === 'admin') return next();
    return answerProblem(
      new SluiceError('ERR_HTTP_FORBIDDEN', 'this needs a token of kind admin: make one with `sluice-hub token create --admin`'),
    );
  };
}

/** @param openToThisMachine this machine's own programs (Prometheus) need no token */
export function requireReader(tokens: Tokens, openToThisMachine = false): MiddlewareHandler<HubEnv> {
  return async (c, next) => {
    if (openToThisMachine && fromThisMachine(c) && isLoopback(hostName(c))) return next();
    const error = await refusal(tokens, c);
    if (error === null) return next();
    const response = answerProblem(error);
    if (response.status === 401) response.headers.set('www-authenticate', 'Bearer realm="sluice"');
    return response;
  };
}
