/**
 * Bearer tokens of machines: who may send as which gateway, who may read, who may administer.
 *
 * Constraints: a token is 128 random bits, shown once and never stored; the lake has its SHA-256. A fast hash is right
 * here, and only here, because the secret is a random number and not a word: there is nothing to guess. All hubs of a
 * lake see the same tokens, and a revocation reaches every hub within `reloadIntervalMs`.
 *
 * Layout: one immutable JSON object per token, `_sluice/tokens/<id>.json`, id = first 16 hex digits of the hash:
 * `{ id, kind, gateway, sha256, createdUs }`. Immutable objects need no compare-and-set: create is put-if-absent, revoke
 * is delete, and a reload reads only names that it has not seen.
 *
 * Crash: while creating, the object is there whole or not at all (the token was not shown yet); a delete likewise.
 *
 * A token that a gateway made for itself with an enrolment (enrolments.ts) names it: revoking the token ends the enrolment
 * first, so that repeating it does not bring the token back.
 *
 * It does not know passwords of people, and does not limit attempts: 2^128 is the limit.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { GATEWAY_ID_PATTERN } from '../../shared/uplink.ts';
import type { ObjectStore } from '../lake/store.ts';

export const TOKEN_KINDS = ['gateway', 'read', 'admin'] as const;
export type TokenKind = (typeof TOKEN_KINDS)[number];

export type TokenStore = Pick<ObjectStore, 'putIfAbsent' | 'get' | 'list' | 'delete'>;

export const TOKENS_PREFIX = '_sluice/tokens/';
export const ENROLMENTS_PREFIX = '_sluice/enrolments/';
/** One page of a listing; a fleet needs one per gateway. */
export const TOKENS_MAX = 10_000;
/** What a token looks like: a mark that secret scanners can find, and 16 bytes. */
const TOKEN_PATTERN = /^slc_[A-Za-z0-9_-]{22}$/;
const KEY_PATTERN = /^_sluice\/tokens\/[0-9a-f]{16}\.json$/;

const tokenRecordSchema = z
  .object({
    id: z.string().regex(/^[0-9a-f]{16}$/),
    kind: z.enum(TOKEN_KINDS),
    gateway: z.string().regex(GATEWAY_ID_PATTERN).nullable(),
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    createdUs: z.int().min(0),
    /** Id of the enrolment that it came from. */
    enrolment: z
      .string()
      .regex(/^[0-9a-f]{16}$/)
      .optional(),
  })
  .refine((record) => (record.kind === 'gateway') === (record.gateway !== null) && record.sha256.startsWith(record.id));
export type TokenRecord = z.infer<typeof tokenRecordSchema>;

function sha256(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest();
}

function keyOf(id: string): string {
  return `${TOKENS_PREFIX}${id}.json`;
}

/** The token of an `Authorization: Bearer …` header; null if there is none. */
export function bearerToken(header: string | undefined): string | null {
  const match = header === undefined || header.length > 512 ? null : /^Bearer +([^\s]+) *$/i.exec(header);
  return match?.[1] ?? null;
}

/**
 * Makes a token and stores its hash durably. The answer is the only place where the token itself exists.
 *
 * @param gateway the name of a gateway's token, null for the other kinds
 * @param randomBytes so many bytes from a cryptographic source
 * @throws SluiceError ERR_TOKEN_GATEWAY_NAME, ERR_TOKEN_LIMIT, ERR_STORE_*
 */
export async function createToken(
  store: TokenStore,
  kind: TokenKind,
  gateway: string | null,
  clock: Pick<Clock, 'nowUs'>,
  randomBytes: (count: number) => Uint8Array,
): Promise<{ token: string; record: TokenRecord }> {
  if (kind === 'gateway' ? gateway === null || !GATEWAY_ID_PATTERN.test(gateway) : gateway !== null) {
    throw new SluiceError(
      'ERR_TOKEN_GATEWAY_NAME',
      `the gateway name ${JSON.stringify(gateway)} does not fit a token of kind ${kind}: letters, digits, '.', '_', '-', at most 64`,
    );
  }
  const token = `slc_${Buffer.from(randomBytes(16)).toString('base64url')}`;
  const hash = sha256(token).toString('hex');
  const record: TokenRecord = { id: hash.slice(0, 16), kind, gateway, sha256: hash, createdUs: clock.nowUs() };
  // 64 equal bits of a hash of 128 random ones: the random source is broken, and going on would be worse.
  if ((await putToken(store, record)) === 'exists')
    throw new SluiceError('ERR_TOKEN_LIMIT', `a token with id ${record.id} exists: the random source repeats itself`);
  return { token, record };
}

/** @throws SluiceError ERR_TOKEN_LIMIT, ERR_STORE_* */
export async function putToken(store: TokenStore, record: TokenRecord): Promise<'created' | 'exists'> {
  const stored = (await store.list(TOKENS_PREFIX, { limit: TOKENS_MAX })).length;
  if (stored >= TOKENS_MAX) throw new SluiceError('ERR_TOKEN_LIMIT', `the lake has ${stored} tokens, allowed ${TOKENS_MAX}: revoke some`);
  return store.putIfAbsent(keyOf(record.id), Buffer.from(JSON.stringify(record)));
}

/** @throws SluiceError ERR_TOKEN_UNKNOWN, ERR_STORE_* */
export async function revokeToken(store: TokenStore, id: string): Promise<void> {
  if (!/^[0-9a-f]{16}$/.test(id) || (await store.get(keyOf(id))) === null)
    throw new SluiceError('ERR_TOKEN_UNKNOWN', `no token has the id ${JSON.stringify(id.slice(0, 64))}`);
  const enrolment = (await readRecord(store, keyOf(id)))?.enrolment;
  if (enrolment !== undefined) await store.delete(`${ENROLMENTS_PREFIX}${enrolment}.json`);
  await store.delete(keyOf(id));
}

export async function listTokens(store: TokenStore): Promise<TokenRecord[]> {
  const records: TokenRecord[] = [];
  for (const { key } of await store.list(TOKENS_PREFIX, { limit: TOKENS_MAX })) {
    const record = await readRecord(store, key);
    if (record !== null) records.push(record);
  }
  return records;
}

/** null: not a token's object, damaged, or deleted in the meantime. */
async function readRecord(store: TokenStore, key: string): Promise<TokenRecord | null> {
  if (!KEY_PATTERN.test(key)) return null;
  const bytes = await store.get(key);
  if (bytes === null) return null;
  try {
    const record = tokenRecordSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
    return keyOf(record.id) === key ? record : null;
  } catch {
    return null; // the caller logs it with its key; a damaged token lets nobody in
  }
}

export interface TokenRegistrySettings {
  readonly reloadIntervalMs: number;
  /** An unknown token reloads at once, but not more often than this: strangers must not drive the store. */
  readonly unknownReloadMsMin: number;
}

const DEFAULTS: TokenRegistrySettings = { reloadIntervalMs: 5_000, unknownReloadMsMin: 1_000 };

/** The tokens of a lake in memory, kept up to date. */
export class TokenRegistry {
  readonly #store: TokenStore;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #settings: TokenRegistrySettings;
  /** By object key; null: an object that is no token, remembered so that it is read and logged once. */
  #records = new Map<string, TokenRecord | null>();
  #bySha256 = new Map<string, TokenRecord>();
  #hasReaders = false;
  #reloading: Promise<void> | null = null;
  #reloadedForUnknownUs = -Infinity;
  #cancelTimer: (() => void) | null = null;
  #stopped = false;

  private constructor(store: TokenStore, clock: Clock, logger: Logger, settings: TokenRegistrySettings) {
    this.#store = store;
    this.#clock = clock;
    this.#logger = logger;
    this.#settings = settings;
  }

  /** @throws SluiceError ERR_STORE_* when the first load fails */
  static async open(
    store: TokenStore,
    clock: Clock,
    logger: Logger,
    settings: Partial<TokenRegistrySettings> = {},
  ): Promise<TokenRegistry> {
    const registry = new TokenRegistry(store, clock, logger, { ...DEFAULTS, ...settings });
    await registry.#load();
    registry.#schedule();
    return registry;
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer?.();
  }

  list(): TokenRecord[] {
    return [...this.#bySha256.values()];
  }

  /** Is there a token of somebody who may read? As of the last reload. */
  get hasReaders(): boolean {
    return this.#hasReaders;
  }

  /** Has the token with this id been revoked? As of the last reload. */
  isCurrent(id: string): boolean {
    return (this.#records.get(keyOf(id)) ?? null) !== null;
  }

  /** Waits for the store only when the token is unknown. null: nobody. */
  async verify(token: string | null): Promise<TokenRecord | null> {
    if (token === null || !TOKEN_PATTERN.test(token)) return null;
    const known = this.#find(token);
    if (known !== null) return known;
    await this.#reloadForUnknown();
    return this.#find(token);
  }

  /** Map lookup by hash: what its timing tells is about the hash of the guess, not about a token. */
  #find(token: string): TokenRecord | null {
    const digest = sha256(token);
    const record = this.#bySha256.get(digest.toString('hex'));
    return record !== undefined && timingSafeEqual(digest, Buffer.from(record.sha256, 'hex')) ? record : null;
  }

  async #reloadForUnknown(): Promise<void> {
    const nowUs = this.#clock.monotonicUs();
    if (this.#reloading === null) {
      if (nowUs - this.#reloadedForUnknownUs < this.#settings.unknownReloadMsMin * 1000) return;
      this.#reloadedForUnknownUs = nowUs;
    }
    await this.reload();
  }

  /** Reads what is new in the store and forgets what is gone. Never throws: on failure the old tokens stay. */
  reload(): Promise<void> {
    this.#reloading ??= this.#load()
      .catch((error: unknown) => {
        this.#logger.warn({ error: errorMessage(error) }, 'the tokens in the lake cannot be read; the known ones stay valid');
      })
      .finally(() => {
        this.#reloading = null;
      });
    return this.#reloading;
  }

  async #load(): Promise<void> {
    const records = new Map<string, TokenRecord | null>();
    for (const { key } of await this.#store.list(TOKENS_PREFIX, { limit: TOKENS_MAX })) {
      const known = this.#records.get(key);
      if (known !== undefined) {
        records.set(key, known);
        continue;
      }
      const record = await readRecord(this.#store, key);
      if (record === null) this.#logger.warn({ key }, 'not a token, ignored');
      records.set(key, record);
    }
    this.#records = records;
    this.#bySha256 = new Map([...records.values()].filter((record) => record !== null).map((record) => [record.sha256, record]));
    this.#hasReaders = this.list().some(({ kind }) => kind === 'read' || kind === 'admin');
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#cancelTimer = this.#clock.after(this.#settings.reloadIntervalMs, () => {
      void this.reload().then(() => this.#schedule());
    });
  }
}
