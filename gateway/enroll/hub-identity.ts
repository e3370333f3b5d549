/**
 * Who this gateway is at its hub: address, name and secret, as `enroll` received them.
 *
 * Layout: `<dataDir>/hub.json`, mode 0600, valid; `<dataDir>/hub.pending.json`, the secret that an enrolment under way has
 * shown or is about to show. Both are replaced as a whole (durable-file.ts). `<dataDir>/hub-ca.<hash>.pem`: the authority of the
 * hub's certificate, a copy: who enrols gives a file in a home or in /tmp, which the service does not see.
 *
 * Crash: before hub.pending.json is there, nothing was sent. While it is there, the same enrolment token finds the same
 * secret, which the hub takes again. Once hub.json is there the gateway is enrolled, and what is left of the pending file
 * is only looked at for the same enrolment token.
 */
import { createHash } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { GATEWAY_ID_PATTERN } from '../../shared/uplink.ts';
import type { GatewayConfig } from '../config.ts';
import { writeDurably } from '../durable-file.ts';

const secretSchema = z.string().regex(/^slc_[A-Za-z0-9_-]{22}$/);
/** SHA-256 of the enrolment token: tells whether a repetition is the same one. */
const enrolmentSchema = z.string().regex(/^[0-9a-f]{64}$/);

const identitySchema = z.strictObject({
  version: z.literal(1),
  hub: z.string().min(1).max(2_048),
  caFile: z.string().max(4_096).nullable(),
  gateway: z.string().regex(GATEWAY_ID_PATTERN),
  lakeId: z.string().max(64),
  token: secretSchema,
  enrolment: enrolmentSchema,
});
export type HubIdentity = z.infer<typeof identitySchema>;

const pendingSchema = z.strictObject({ version: z.literal(1), token: secretSchema, enrolment: enrolmentSchema });
export type PendingIdentity = z.infer<typeof pendingSchema>;

export function identityPath(dataDir: string): string {
  return path.join(dataDir, 'hub.json');
}

function pendingPath(dataDir: string): string {
  return path.join(dataDir, 'hub.pending.json');
}

/** null: not enrolled. @throws SluiceError ERR_ENROLL_FILE */
export function readIdentity(dataDir: string): HubIdentity | null {
  return readFile(identityPath(dataDir), identitySchema);
}

/** @throws SluiceError ERR_ENROLL_FILE */
export function readPending(dataDir: string): PendingIdentity | null {
  return readFile(pendingPath(dataDir), pendingSchema);
}

/** @throws SluiceError ERR_ENROLL_FILE */
export function writePending(dataDir: string, pending: PendingIdentity): void {
  writeFile(pendingPath(dataDir), pending);
}

/** Durable when it returns. @throws SluiceError ERR_ENROLL_FILE */
export function writeIdentity(dataDir: string, identity: HubIdentity): void {
  writeFile(identityPath(dataDir), identity);
  rmSync(pendingPath(dataDir), { force: true });
}

/**
 * Copies the file to where the gateway finds it whenever it starts.
 *
 * @returns the copy, durable; null: there is none
 * @throws SluiceError ERR_ENROLL_FILE
 */
export function keepAuthority(dataDir: string, caFile: string | null): string | null {
  if (caFile === null) return null;
  try {
    const content = readFileSync(caFile);
    const copy = path.join(dataDir, `hub-ca.${createHash('sha256').update(content).digest('hex').slice(0, 8)}.pem`);
    writeDurably(copy, content);
    return copy;
  } catch (cause) {
    throw new SluiceError('ERR_ENROLL_FILE', `cannot keep a copy of ${caFile} in ${dataDir}: ${errorMessage(cause)}`, { cause });
  }
}

/** The configuration with what `enroll` received in the places that it leaves open. @throws SluiceError ERR_ENROLL_FILE */
export function withIdentity(config: GatewayConfig): GatewayConfig {
  const { uplink } = config;
  const identity = readIdentity(config.dataDir);
  if (identity === null) return config;
  const isElsewhere = uplink.url !== null;
  return {
    ...config,
    uplink: {
      ...uplink,
      url: uplink.url ?? identity.hub,
      token: uplink.token ?? (uplink.tokenFile === null ? identity.token : null),
      caFile: uplink.caFile ?? (isElsewhere ? null : identity.caFile),
    },
  };
}

function readFile<T>(file: string, schema: z.ZodType<T>): T | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new SluiceError('ERR_ENROLL_FILE', `cannot read ${file}: ${errorMessage(cause)}`, { cause });
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new SluiceError('ERR_ENROLL_FILE', `${file} is damaged; remove it and enrol again with a new token`, { cause });
  }
}

function writeFile(file: string, document: HubIdentity | PendingIdentity): void {
  try {
    writeDurably(file, `${JSON.stringify(document, null, 2)}\n`);
  } catch (cause) {
    throw new SluiceError('ERR_ENROLL_FILE', `cannot write ${file}: ${errorMessage(cause)}`, { cause });
  }
}
