/**
 * The devices' credentials: name and SHA-256 of a 128-bit random secret.
 *
 * A machine's secret is random, so a plain hash is as strong as the secret and costs a microsecond; slow password hashes
 * protect what people choose. The file is replaced as a whole (durable-file.ts): a crash leaves the old or the new one. A running gateway notices a change within RELOAD_INTERVAL_MS; a file that became
 * unreadable leaves the old credentials in force.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import type { Clock } from '../shared/clock.ts';
import { SluiceError, errorMessage } from '../shared/errors.ts';
import { writeDurably } from './durable-file.ts';

const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const CREDENTIALS_MAX = 100_000;
const RELOAD_INTERVAL_MS = 1_000;

const fileSchema = z.strictObject({
  version: z.literal(1),
  devices: z
    .array(
      z.strictObject({
        name: z.string().regex(NAME_PATTERN),
        sha256: z.string().regex(/^[0-9a-f]{64}$/),
        /** May write readings of any device: collectors such as Telegraf. */
        anyDevice: z.boolean(),
        createdAt: z.string(),
      }),
    )
    .max(CREDENTIALS_MAX),
});
export type DeviceCredential = z.infer<typeof fileSchema>['devices'][number];

export function credentialsPath(dataDir: string): string {
  return path.join(dataDir, 'credentials.json');
}

function sha256(secret: string | Buffer): Buffer {
  return createHash('sha256').update(secret).digest();
}

const NOBODY = sha256(randomBytes(16));

/** @throws SluiceError ERR_CREDENTIALS_FILE */
function readCredentials(file: string): DeviceCredential[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new SluiceError('ERR_CREDENTIALS_FILE', `cannot read ${file}: ${errorMessage(cause)}`, { cause });
  }
  try {
    return fileSchema.parse(JSON.parse(text)).devices;
  } catch (cause) {
    throw new SluiceError('ERR_CREDENTIALS_FILE', `${file} is not a credentials file: ${errorMessage(cause)}`, { cause });
  }
}

function writeCredentials(file: string, devices: readonly DeviceCredential[]): void {
  try {
    writeDurably(file, `${JSON.stringify({ version: 1, devices }, null, 2)}\n`);
  } catch (cause) {
    throw new SluiceError('ERR_CREDENTIALS_FILE', `cannot write ${file}: ${errorMessage(cause)}`, { cause });
  }
}

/**
 * Adds a device and gives its secret, which is stored nowhere.
 *
 * @throws SluiceError ERR_CREDENTIALS_NAME, ERR_CREDENTIALS_FILE
 */
export function addDevice(file: string, name: string, options: { anyDevice: boolean; now: Date }): string {
  if (!NAME_PATTERN.test(name)) {
    throw new SluiceError(
      'ERR_CREDENTIALS_NAME',
      `${JSON.stringify(name.slice(0, 140))}: letters, digits, . _ - and at most 128 of them, the first a letter or digit`,
    );
  }
  const devices = readCredentials(file);
  if (devices.some((device) => device.name === name)) {
    throw new SluiceError('ERR_CREDENTIALS_NAME', `device ${name} has a credential already; remove it first to give it a new secret`);
  }
  if (devices.length >= CREDENTIALS_MAX)
    throw new SluiceError('ERR_CREDENTIALS_NAME', `${devices.length} devices have credentials, at most ${CREDENTIALS_MAX} may`);
  const secret = randomBytes(16).toString('base64url');
  writeCredentials(file, [
    ...devices,
    { name, sha256: sha256(secret).toString('hex'), anyDevice: options.anyDevice, createdAt: options.now.toISOString() },
  ]);
  return secret;
}

export function listDevices(file: string): DeviceCredential[] {
  return readCredentials(file);
}

/** @throws SluiceError ERR_CREDENTIALS_NAME, ERR_CREDENTIALS_FILE */
export function removeDevice(file: string, name: string): void {
  const devices = readCredentials(file);
  const others = devices.filter((device) => device.name !== name);
  if (others.length === devices.length)
    throw new SluiceError('ERR_CREDENTIALS_NAME', `no device ${JSON.stringify(name.slice(0, 140))} has a credential`);
  writeCredentials(file, others);
}

/** The credentials in force. */
export class Credentials {
  readonly #file: string;
  readonly #clock: Clock;
  readonly #onFault: (error: unknown) => void;
  #devices = new Map<string, { hash: Buffer; credential: DeviceCredential }>();
  #byHash = new Map<string, DeviceCredential>();
  #stamp = '';
  #checkedAtUs = -Infinity;

  /** @throws SluiceError ERR_CREDENTIALS_FILE */
  constructor(file: string, clock: Clock, onFault: (error: unknown) => void = () => undefined) {
    this.#file = file;
    this.#clock = clock;
    this.#onFault = onFault;
    this.#load();
  }

  get size(): number {
    this.#reload();
    return this.#devices.size;
  }

  /** null: the name is not known or the secret is wrong; both take the same time. */
  verify(name: string, secret: string | Buffer): DeviceCredential | null {
    this.#reload();
    const known = this.#devices.get(name);
    const equal = timingSafeEqual(sha256(secret), known?.hash ?? NOBODY);
    return known !== undefined && equal ? known.credential : null;
  }

  /** `NAME:SECRET`, or the secret alone: 128 random bits name their owner too, and a look-up by hash tells nothing by its time. */
  verifyToken(token: string): DeviceCredential | null {
    const colon = token.indexOf(':');
    if (colon >= 0) return this.verify(token.slice(0, colon), token.slice(colon + 1));
    this.#reload();
    return this.#byHash.get(sha256(token).toString('hex')) ?? null;
  }

  #reload(): void {
    const nowUs = this.#clock.monotonicUs();
    if (nowUs - this.#checkedAtUs < RELOAD_INTERVAL_MS * 1000) return;
    try {
      this.#load();
    } catch (error) {
      this.#onFault(error); // the old credentials stay in force: locking all devices out would lose their data
    }
  }

  #load(): void {
    this.#checkedAtUs = this.#clock.monotonicUs();
    let stamp = 'none';
    try {
      const stat = statSync(this.#file);
      stamp = `${stat.mtimeMs} ${stat.size} ${stat.ino}`;
    } catch {
      // Not there: no credentials; any other trouble shows when it is read.
    }
    if (stamp === this.#stamp) return;
    const devices = readCredentials(this.#file);
    this.#devices = new Map(devices.map((credential) => [credential.name, { hash: Buffer.from(credential.sha256, 'hex'), credential }]));
    this.#byHash = new Map(devices.map((credential) => [credential.sha256, credential]));
    this.#stamp = stamp;
  }
}
