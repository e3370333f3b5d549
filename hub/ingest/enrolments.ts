/**
 * Enrolments: how a gateway in the field comes by its identity and credential, once, with a token typed in by hand.
 *
 * The gateway makes its secret itself and tells only the SHA-256: neither the hub nor whoever reads the lake ever has it.
 * What is unique is the claim: the first secret that shows the enrolment token is the one, whichever hub it came to.
 *
 * Layout, JSON objects, `<id>` = first 16 hex digits of the enrolment token's SHA-256:
 * `_sluice/enrolments/<id>.json` `{ id, gateway, sha256, createdUs, expiresUs }`, written by the operator's command;
 * `_sluice/enrolments/<id>.claim` `{ tokenSha256, claimedUs }`, put if absent; then the gateway's token (tokens.ts).
 *
 * Crash: before the claim nothing happened; after it the same secret, and no other, may come again and finds the token
 * made or makes it. An answer that was lost is asked for again in the same way. Revoking the token deletes the enrolment.
 *
 * It does not limit guesses: 2^128 is the limit; only how many are looked up at a time.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { GATEWAY_ID_PATTERN } from '../../shared/uplink.ts';
import { ENROLMENTS_PREFIX, putToken, type TokenStore } from './tokens.ts';

/** Another mark than a gateway's token has, so that one in the wrong place is told so. */
const ENROLMENT_PATTERN = /^sle_[A-Za-z0-9_-]{22}$/;
const SHA256_PATTERN = /^[0-9a-f]{64}$/;
const AT_ONCE_MAX = 8;
/** Older ones are deleted when a new one is made. */
const KEPT_AFTER_EXPIRY_US = 30 * 86_400_000_000;
const ENROLMENTS_MAX = 10_000;

const enrolmentSchema = z.object({
  id: z.string().regex(/^[0-9a-f]{16}$/),
  gateway: z.string().regex(GATEWAY_ID_PATTERN),
  sha256: z.string().regex(SHA256_PATTERN),
  createdUs: z.int().min(0),
  expiresUs: z.int().min(0),
});
export type Enrolment = z.infer<typeof enrolmentSchema>;

const claimSchema = z.object({ tokenSha256: z.string().regex(SHA256_PATTERN), claimedUs: z.int().min(0) });
type Claim = z.infer<typeof claimSchema>;

function sha256(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}

function keyOf(id: string): string {
  return `${ENROLMENTS_PREFIX}${id}.json`;
}

function claimKeyOf(id: string): string {
  return `${ENROLMENTS_PREFIX}${id}.claim`;
}

async function readJson<T>(store: TokenStore, key: string, schema: z.ZodType<T>): Promise<T | null> {
  const bytes = await store.get(key);
  if (bytes === null) return null;
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    document = null; // the refusal below names the object
  }
  const parsed = schema.safeParse(document);
  if (!parsed.success) throw new SluiceError('ERR_ENROLL_TOKEN', `${key} in the lake is damaged; make a new enrolment token`);
  return parsed.data;
}

/**
 * Makes an enrolment token for a gateway of this name. The answer is the only place where the token itself exists.
 *
 * @param validMs how long it may be used
 * @throws SluiceError ERR_TOKEN_GATEWAY_NAME, ERR_TOKEN_LIMIT, ERR_STORE_*
 */
export async function createEnrolment(
  store: TokenStore,
  gateway: string,
  validMs: number,
  clock: Pick<Clock, 'nowUs'>,
  randomBytes: (count: number) => Uint8Array,
): Promise<{ token: string; enrolment: Enrolment }> {
  if (!GATEWAY_ID_PATTERN.test(gateway))
    throw new SluiceError(
      'ERR_TOKEN_GATEWAY_NAME',
      `${JSON.stringify(gateway.slice(0, 100))} cannot name a gateway: letters, digits, '.', '_', '-', at most 64`,
    );
  const nowUs = clock.nowUs();
  const kept = await forgetExpired(store, nowUs);
  if (kept >= ENROLMENTS_MAX) throw new SluiceError('ERR_TOKEN_LIMIT', `the lake has ${kept} enrolments, allowed ${ENROLMENTS_MAX}`);
  const token = `sle_${Buffer.from(randomBytes(16)).toString('base64url')}`;
  const hash = sha256(token).toString('hex');
  const enrolment: Enrolment = { id: hash.slice(0, 16), gateway, sha256: hash, createdUs: nowUs, expiresUs: nowUs + validMs * 1000 };
  if ((await store.putIfAbsent(keyOf(enrolment.id), Buffer.from(JSON.stringify(enrolment)))) === 'exists')
    throw new SluiceError('ERR_TOKEN_LIMIT', `an enrolment with id ${enrolment.id} exists: the random source repeats itself`);
  return { token, enrolment };
}

/** The number of those that stay. The enrolment goes first: a claim without one is nothing. */
async function forgetExpired(store: TokenStore, nowUs: number): Promise<number> {
  let kept = 0;
  for (const { key } of await store.list(ENROLMENTS_PREFIX, { limit: ENROLMENTS_MAX })) {
    if (!key.endsWith('.json')) continue;
    const id = key.slice(ENROLMENTS_PREFIX.length, -'.json'.length);
    const enrolment = await readJson(store, key, enrolmentSchema).catch(() => null); // damaged: nobody can use it
    if (enrolment !== null && enrolment.expiresUs + KEPT_AFTER_EXPIRY_US > nowUs) {
      kept++;
      continue;
    }
    await store.delete(key);
    await store.delete(claimKeyOf(id));
  }
  return kept;
}

/** Who asks, with what: the answer of a hub to a gateway that enrols. */
export class Enrolments {
  readonly #store: TokenStore;
  readonly #clock: Pick<Clock, 'nowUs'>;
  #running = 0;

  constructor(store: TokenStore, clock: Pick<Clock, 'nowUs'>) {
    this.#store = store;
    this.#clock = clock;
  }

  /**
   * The name of the gateway, once its token is valid. The same secret may ask again; another one is refused.
   *
   * @param tokenSha256 hex SHA-256 of the secret that the gateway made, `slc_…`
   * @throws SluiceError ERR_ENROLL_TOKEN, ERR_ENROLL_REQUEST, ERR_ENROLL_BUSY, ERR_TOKEN_LIMIT, ERR_STORE_*
   */
  async enroll(enrolmentToken: string | null, tokenSha256: string): Promise<string> {
    if (enrolmentToken?.startsWith('slc_') === true)
      throw new SluiceError('ERR_ENROLL_TOKEN', 'this is a token for the uplink (slc_…), not for enrolment (sle_…): set uplink.tokenFile');
    if (enrolmentToken === null || !ENROLMENT_PATTERN.test(enrolmentToken))
      throw new SluiceError('ERR_ENROLL_TOKEN', 'an enrolment token looks like sle_ and 22 letters; sluice-hub token create --enroll NAME');
    if (!SHA256_PATTERN.test(tokenSha256))
      throw new SluiceError('ERR_ENROLL_REQUEST', `token_sha256 has to be 64 hex digits, not ${JSON.stringify(tokenSha256.slice(0, 80))}`);
    if (this.#running >= AT_ONCE_MAX)
      throw new SluiceError('ERR_ENROLL_BUSY', `${this.#running} gateways are enrolling, at most ${AT_ONCE_MAX} at a time may: try again`);
    this.#running++;
    try {
      return await this.#enroll(enrolmentToken, tokenSha256);
    } finally {
      this.#running--;
    }
  }

  async #enroll(enrolmentToken: string, tokenSha256: string): Promise<string> {
    const digest = sha256(enrolmentToken);
    const id = digest.toString('hex').slice(0, 16);
    const enrolment = await readJson(this.#store, keyOf(id), enrolmentSchema);
    if (enrolment === null || !timingSafeEqual(digest, Buffer.from(enrolment.sha256, 'hex')))
      throw new SluiceError('ERR_ENROLL_TOKEN', 'no such enrolment token, or it was revoked; sluice-hub token create --enroll NAME');
    const claim = await this.#claim(enrolment, tokenSha256);
    if (claim.tokenSha256 !== tokenSha256)
      throw new SluiceError(
        'ERR_ENROLL_TOKEN',
        `the enrolment token of ${enrolment.gateway} was used already, on ${new Date(claim.claimedUs / 1000).toISOString()}; if that was not you, revoke token ${claim.tokenSha256.slice(0, 16)}`,
      );
    await putToken(this.#store, {
      id: tokenSha256.slice(0, 16),
      kind: 'gateway',
      gateway: enrolment.gateway,
      sha256: tokenSha256,
      createdUs: claim.claimedUs,
      enrolment: id,
    });
    return enrolment.gateway;
  }

  /** The claim that holds: this one, or an earlier one. */
  async #claim({ id, gateway, expiresUs }: Enrolment, tokenSha256: string): Promise<Claim> {
    const known = await readJson(this.#store, claimKeyOf(id), claimSchema);
    if (known !== null) return known;
    const nowUs = this.#clock.nowUs();
    if (nowUs >= expiresUs)
      throw new SluiceError(
        'ERR_ENROLL_TOKEN',
        `the enrolment token of ${gateway} expired on ${new Date(expiresUs / 1000).toISOString()}; make a new one`,
      );
    const claim: Claim = { tokenSha256, claimedUs: nowUs };
    if ((await this.#store.putIfAbsent(claimKeyOf(id), Buffer.from(JSON.stringify(claim)))) === 'created') return claim;
    // Another hub, or another request, was first.
    return (await readJson(this.#store, claimKeyOf(id), claimSchema)) ?? claim;
  }
}
