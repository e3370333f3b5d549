/** One HTTP request to the hub, bounded in time and bytes; with its own authority where the hub has one. */
import { readFileSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { SluiceError, errorMessage } from '../../shared/errors.ts';

const BODY_BYTES_MAX = 64 * 1024;

export interface HubRequest {
  /** http(s)://host:port, with a prefix if the hub has one. */
  readonly hub: string;
  /** '/v1/enroll'. */
  readonly path: string;
  readonly method: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly caFile: string | null;
  readonly timeoutMs: number;
}

export interface HubAnswer {
  /** 101: the hub has taken the upgrade; the connection is closed again. */
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** @throws SluiceError ERR_UPLINK_URL */
export function hubBase(text: string): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new SluiceError('ERR_UPLINK_URL', `${JSON.stringify(text)} is not a URL; give something like https://hub.example:8080`, {
      cause,
    });
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new SluiceError('ERR_UPLINK_URL', `${url.protocol}// cannot be a hub; http and https can`);
  return url;
}

/** Any status is an answer. @throws SluiceError ERR_UPLINK_URL, ERR_UPLINK_CONNECT */
export function askHub({ hub, path, method, headers, body, caFile, timeoutMs }: HubRequest): Promise<HubAnswer> {
  const url = hubBase(hub);
  const target = `${url.pathname.replace(/\/+$/, '')}${path}`;
  let ca: Buffer | undefined;
  try {
    ca = caFile === null ? undefined : readFileSync(caFile);
  } catch (cause) {
    throw new SluiceError('ERR_UPLINK_URL', `the CA file ${String(caFile)} cannot be read: ${errorMessage(cause)}`, { cause });
  }
  const options = { hostname: url.hostname.replace(/^\[|\]$/g, ''), port: url.port, path: target, method, headers, agent: false as const };
  return new Promise((resolve, reject) => {
    const request = url.protocol === 'https:' ? httpsRequest({ ...options, ...(ca === undefined ? {} : { ca }) }) : httpRequest(options);
    const fail = (cause: Error): void => {
      clearTimeout(timer);
      request.destroy();
      reject(new SluiceError('ERR_UPLINK_CONNECT', `${hub}: ${connectAdvice(cause, timeoutMs)}`, { cause }));
    };
    const timer = setTimeout(() => fail(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    request.on('error', fail);
    request.on('upgrade', (response, socket) => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ status: 101, headers: response.headers, body: '' });
    });
    request.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('error', fail);
      response.on('data', (part: string) => {
        text += part;
        if (text.length > BODY_BYTES_MAX) fail(new Error(`its answer has more than ${BODY_BYTES_MAX} bytes`));
      });
      response.on('end', () => {
        clearTimeout(timer);
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text });
      });
    });
    request.end(body);
  });
}

/** What the system says, with what it mostly means. */
function connectAdvice(cause: NodeJS.ErrnoException, timeoutMs: number): string {
  const text = cause.message === '' ? String(cause.code) : cause.message;
  switch (cause.code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `the name is not known (${text}): check its spelling and the DNS of this network`;
    case 'ECONNREFUSED':
      return `nothing listens there (${text}): is the hub running, and does it listen on more than loopback (http.host)?`;
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return `there is no way to that network (${text}): check cable, Wi-Fi and default route`;
    case 'ECONNRESET':
      return `the connection was cut (${text}): is it https where http was asked, or the other way round?`;
    case 'CERT_NOT_YET_VALID':
    case 'CERT_HAS_EXPIRED':
      return `its certificate is not valid at this machine's time, ${new Date().toISOString()} (${text}): is the clock right?`;
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
      return `its certificate comes from an authority that is not known here (${text}): give its PEM file with --ca-file`;
    default:
      return `${text}${text.includes('no answer') ? `: is a firewall in between?` : ` (within ${timeoutMs} ms)`}`;
  }
}
