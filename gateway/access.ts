/** Who may write what: one decision for MQTT and HTTP. */
import { isLoopback } from '../shared/listen.ts';
import type { AccessConfig } from './config.ts';
import type { Credentials, DeviceCredential } from './credentials.ts';

export const CREDENTIALS_HINT = 'create a credential with `sluice-gateway device add NAME`';

export interface Grant {
  /** null: anonymous. */
  readonly name: string | null;
  /** The one device that may be written; null: any. */
  readonly onlyDevice: string | null;
}

/** `wrong`: the name or secret does not fit; `missing`: none was given and one is needed. */
export type AccessDecision = Grant | 'wrong' | 'missing';

const ANYONE: Grant = { name: null, onlyDevice: null };

export class Access {
  readonly #config: AccessConfig;
  readonly #credentials: Credentials;

  constructor(config: AccessConfig, credentials: Credentials) {
    this.#config = config;
    this.#credentials = credentials;
  }

  /** Are there credentials? */
  get configured(): boolean {
    return this.#credentials.size > 0;
  }

  check(remoteAddress: string, name: string | null, secret: string | Buffer): AccessDecision {
    const { configured } = this;
    // Without credentials there is nothing that a name could be compared with: as with Mosquitto, any one passes.
    if (name === null || !configured) return this.#anonymous(remoteAddress, configured);
    return this.#grant(this.#credentials.verify(name, secret));
  }

  /** A bearer token: `NAME:SECRET` or the secret alone. */
  checkToken(remoteAddress: string, token: string): AccessDecision {
    const { configured } = this;
    return configured ? this.#grant(this.#credentials.verifyToken(token)) : this.#anonymous(remoteAddress, configured);
  }

  #grant(credential: DeviceCredential | null): AccessDecision {
    if (credential === null) return 'wrong';
    return { name: credential.name, onlyDevice: credential.anyDevice || !this.#config.restrictTopics ? null : credential.name };
  }

  #anonymous(remoteAddress: string, configured: boolean): AccessDecision {
    return (this.#config.anonymous ?? !configured) && isLoopback(remoteAddress) ? ANYONE : 'missing';
  }
}
