import { readFileSync } from 'node:fs';
import { errorMessage, SluiceError } from '../../shared/errors.ts';
import { UPLINK_PATH } from '../../shared/uplink.ts';

export interface HubAddress {
  /** ws:// or wss://, with UPLINK_PATH. */
  readonly url: string;
  readonly token: string;
  /** PEM of the only authorities that are trusted; null: those of the system. */
  readonly ca: Buffer | null;
}

/**
 * @param text http(s):// or ws(s):// address of the hub; a path is a prefix of UPLINK_PATH
 * @throws SluiceError ERR_UPLINK_URL
 */
export function hubAddress(text: string, token: string, caFile: string | null): HubAddress {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new SluiceError('ERR_UPLINK_URL', `${JSON.stringify(text)} is not a URL; give something like https://hub.example:8080`, {
      cause,
    });
  }
  const scheme = { 'http:': 'ws:', 'https:': 'wss:', 'ws:': 'ws:', 'wss:': 'wss:' }[url.protocol];
  if (scheme === undefined) throw new SluiceError('ERR_UPLINK_URL', `${url.protocol}// cannot be an uplink; http, https, ws and wss can`);
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new SluiceError('ERR_UPLINK_URL', 'the uplink token is empty or has characters that no token has');
  let ca: Buffer | null = null;
  if (caFile !== null) {
    try {
      ca = readFileSync(caFile);
    } catch (cause) {
      throw new SluiceError('ERR_UPLINK_URL', `the CA file ${caFile} cannot be read: ${errorMessage(cause)}`, { cause });
    }
    if (scheme === 'ws:') throw new SluiceError('ERR_UPLINK_URL', `a CA file is given, but ${text} is not encrypted`);
  }
  return { url: `${scheme}//${url.host}${url.pathname.replace(/\/+$/, '')}${UPLINK_PATH}`, token, ca };
}
