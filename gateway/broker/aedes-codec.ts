/**
 * The MQTT codec that aedes itself has loaded: its own copy, wherever npm put it.
 *
 * In a file of its own because a bundle has no copies to look for: package builds put a plain import in its place.
 */
import { createRequire } from 'node:module';

interface Codec {
  readonly writeToStream: { cacheNumbers: boolean };
}

export const aedesCodec = createRequire(import.meta.resolve('aedes'))('mqtt-packet') as Codec;
