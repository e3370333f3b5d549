/**
 * Binding of servers: loopback unless told otherwise, never elsewhere without credentials, and errors that help.
 */
import { readFileSync } from 'node:fs';
import type { AddressInfo, Server } from 'node:net';
import { createSecureContext } from 'node:tls';
import { z } from 'zod';
import { SluiceError, errorMessage } from './errors.ts';
import { findPortOwner } from './port-owner.ts';

/** Certificate and key of a listener, as its configuration names them; without them it speaks plain text. */
export const tlsFilesSchema = z
  .strictObject({
    cert: z.string().min(1).nullable().default(null).describe('PEM file with the certificate chain; null: no TLS'),
    key: z.string().min(1).nullable().default(null).describe('PEM file with the private key of the certificate'),
  })
  .refine((tls) => (tls.cert === null) === (tls.key === null), { message: 'give both cert and key, or neither' })
  .prefault({});
export type TlsFiles = z.infer<typeof tlsFilesSchema>;

export interface TlsPair {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/**
 * @returns null where no TLS is configured
 * @throws SluiceError ERR_CONFIG_FILE
 */
export function readTls(files: TlsFiles | null): TlsPair | null {
  if (files === null || files.cert === null || files.key === null) return null;
  const read = (what: string, file: string): Buffer => {
    try {
      return readFileSync(file);
    } catch (cause) {
      throw new SluiceError('ERR_CONFIG_FILE', `cannot read the TLS ${what} ${file}: ${errorMessage(cause)}`, { cause });
    }
  };
  const pair = { cert: read('certificate', files.cert), key: read('key', files.key) };
  try {
    createSecureContext(pair);
  } catch (cause) {
    throw new SluiceError(
      'ERR_CONFIG_FILE',
      `${files.cert} and ${files.key} are not a PEM certificate and its key: ${errorMessage(cause)}`,
      {
        cause,
      },
    );
  }
  return pair;
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^(::ffff:)?127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

export interface ListenOptions {
  /** A net, tls, http or https server that does not listen yet. */
  readonly server: Server;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Are there credentials that a stranger would have to show? */
  readonly credentialsConfigured: boolean;
  /** What to do about missing credentials, for people: 'create one with `sluice-gateway device add NAME`'. */
  readonly credentialsHint: string;
  /** The flag that moves the port: '--mqtt-port'. */
  readonly flagName: string;
  /** What listens, for people: 'MQTT'. */
  readonly what: string;
}

/**
 * Binds the server and resolves with its address.
 *
 * @throws SluiceError ERR_LISTEN_NO_CREDENTIALS, ERR_LISTEN_PORT_BUSY, ERR_LISTEN_FAILED
 */
export async function listen(options: ListenOptions): Promise<AddressInfo> {
  const { server, host, port, what, flagName } = options;
  if (!isLoopback(host) && !options.credentialsConfigured) {
    throw new SluiceError(
      'ERR_LISTEN_NO_CREDENTIALS',
      `${what} would listen on ${host}, where anyone on the network reaches it, and no credentials are configured. Either ${options.credentialsHint}, or listen on 127.0.0.1.`,
    );
  }
  await new Promise<void>((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException): void => reject(listenError(options, cause));
    server.once('error', failed);
    server.listen({ host, port }, () => {
      server.off('error', failed);
      resolve();
    });
  });
  const address = server.address();
  if (address === null || typeof address === 'string')
    throw new SluiceError('ERR_LISTEN_FAILED', `${what}: ${flagName} gave no TCP address`);
  return address;
}

function listenError(options: ListenOptions, cause: NodeJS.ErrnoException): SluiceError {
  const { what, host, port, flagName } = options;
  if (cause.code === 'EADDRINUSE') {
    const owner = findPortOwner(port);
    const who = owner === null ? 'another process' : `process ${owner.pid} (${owner.command})`;
    return new SluiceError(
      'ERR_LISTEN_PORT_BUSY',
      `${what}: port ${port} is taken by ${who}; stop it or choose another port with ${flagName} PORT`,
      { cause },
    );
  }
  const why = cause.code === 'EACCES' ? 'not permitted (ports below 1024 need a privilege)' : errorMessage(cause);
  return new SluiceError('ERR_LISTEN_FAILED', `${what}: cannot listen on ${host}:${port} (${flagName}): ${why}`, { cause });
}
