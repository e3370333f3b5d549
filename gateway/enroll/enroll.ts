/** Enrolling: the gateway makes its secret, has the hub take its hash, and keeps it (hub-identity.ts has the crash story). */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { SluiceError } from '../../shared/errors.ts';
import { VERSION } from '../../shared/version.ts';
import { keepAuthority, readIdentity, readPending, writeIdentity, writePending, type HubIdentity } from './hub-identity.ts';
import { askHub, hubBase, type HubAnswer } from './hub-request.ts';

export interface EnrollOptions {
  readonly dataDir: string;
  readonly hub: string;
  readonly enrolmentToken: string;
  readonly caFile: string | null;
  /** Give up the identity that there is. */
  readonly replace: boolean;
  readonly randomBytes: (count: number) => Uint8Array;
  readonly timeoutMs: number;
}

const answerSchema = z.object({ gateway: z.string(), lake_id: z.string(), hub_version: z.string() });
const problemSchema = z.object({ detail: z.string(), code: z.string(), retryable: z.boolean() });

function sha256(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}

/**
 * Durable when it returns. Repeating it with the same token is free: it gives the same identity.
 *
 * @throws SluiceError ERR_ENROLL_*, ERR_UPLINK_URL, ERR_UPLINK_CONNECT
 */
export async function enroll(options: EnrollOptions): Promise<HubIdentity> {
  const { dataDir, enrolmentToken, caFile } = options;
  const hub = hubBase(options.hub).href.replace(/\/+$/, '');
  if (!/^[\x21-\x7e]{1,256}$/.test(enrolmentToken))
    throw new SluiceError('ERR_ENROLL_TOKEN', 'the enrolment token is empty or has characters that none has; it looks like sle_…');
  const enrolment = sha256(enrolmentToken);
  const known = readIdentity(dataDir);
  if (known !== null && known.enrolment === enrolment && known.hub === hub) return known;
  if (known !== null && !options.replace)
    throw new SluiceError('ERR_ENROLL_FILE', `this gateway is ${known.gateway} at ${known.hub} already; --replace gives that up`);
  const pending = readPending(dataDir);
  const token = pending?.enrolment === enrolment ? pending.token : `slc_${Buffer.from(options.randomBytes(16)).toString('base64url')}`;
  if (pending?.enrolment !== enrolment) writePending(dataDir, { version: 1, token, enrolment });
  const answer = await askHub({
    hub,
    path: '/v1/enroll',
    method: 'POST',
    headers: {
      authorization: `Bearer ${enrolmentToken}`,
      'content-type': 'application/json',
      'user-agent': `sluice-gateway/${VERSION}`,
    },
    body: JSON.stringify({ token_sha256: sha256(token) }),
    caFile,
    timeoutMs: options.timeoutMs,
  });
  const { gateway, lake_id: lakeId } = accepted(hub, answer);
  const identity: HubIdentity = { version: 1, hub, caFile: keepAuthority(dataDir, caFile), gateway, lakeId, token, enrolment };
  writeIdentity(dataDir, identity);
  return identity;
}

function accepted(hub: string, answer: HubAnswer): z.infer<typeof answerSchema> {
  const document = parse(answer.body);
  if (answer.status === 200) {
    const parsed = answerSchema.safeParse(document);
    if (parsed.success) return parsed.data;
    throw new SluiceError('ERR_ENROLL_FAILED', `${hub} answered something else than a hub does; is the address right?`);
  }
  const problem = problemSchema.safeParse(document);
  if (!problem.success)
    throw new SluiceError(
      'ERR_ENROLL_FAILED',
      `${hub} answered HTTP ${answer.status} to /v1/enroll${answer.status === 404 ? ': it is no hub, or one that is too old' : ''}`,
    );
  const code = answer.status === 401 ? 'ERR_ENROLL_TOKEN' : 'ERR_ENROLL_FAILED';
  throw new SluiceError(
    code,
    `${hub} refuses: ${problem.data.detail.slice(0, 500)}${problem.data.retryable ? ' (the same command may succeed later)' : ''}`,
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's page: the caller says what was expected
  }
}
