/** Settings of an MQTT source, and the files that they name. */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import { filterFault } from '../tail/topic-filter.ts';

const file = z.string().min(1).max(4_096).nullable().default(null);

/** It stands in file names, client ids and metrics. */
export const sourceNameSchema = z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'a name is lower-case letters, digits and -, at most 32');

export const mqttSourceSchema = z
  .strictObject({
    name: sourceNameSchema.describe('Name of the source; its state at broker and gateway goes by it'),
    url: z
      .string()
      .max(2_048)
      .regex(/^(mqtts?|wss?):\/\/[^@/]+(\/[^@]*)?$/, 'mqtt://host:1883, mqtts://, ws:// or wss://, without user and password')
      .describe('Address of the broker'),
    topics: z
      .array(
        z
          .string()
          .refine((filter) => filterFault(filter) === null, { message: 'not a topic filter: + and # stand alone, # as the last level' }),
      )
      .min(1)
      .max(256)
      .describe('What to subscribe to; the topic rules say what of it is stored'),
    clientId: z.string().min(1).max(128).nullable().default(null).describe('Client id, the same for ever; null: sluice-NAME'),
    username: z.string().max(256).nullable().default(null).describe('User name at the broker'),
    passwordFile: file.describe('File with the password'),
    caFile: file.describe("PEM file: the broker's certificate must come from it"),
    certFile: file.describe('PEM file with a certificate of this client'),
    keyFile: file.describe('PEM file with its key'),
    keepAliveMs: z.int().min(5_000).max(3_600_000).default(30_000).describe('A connection that is silent for longer is tested'),
    retryDelayMsMin: z.int().min(10).max(60_000).default(500).describe('First wait before connecting again'),
    retryDelayMsMax: z.int().min(10).max(3_600_000).default(30_000).describe('Longest wait before connecting again'),
  })
  .refine((source) => (source.certFile === null) === (source.keyFile === null), { message: 'give both certFile and keyFile, or neither' });
export type MqttSourceSettings = z.infer<typeof mqttSourceSchema>;

export interface MqttCredentials {
  readonly password: string | undefined;
  readonly ca: Buffer | undefined;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
}

/** Read at each connection, so that a renewed certificate or password needs no restart. @throws SluiceError ERR_CONFIG_FILE */
export function readCredentials({ name, passwordFile, caFile, certFile, keyFile }: MqttSourceSettings): MqttCredentials {
  const read = (what: string, path: string | null): Buffer | undefined => {
    if (path === null) return undefined;
    try {
      return readFileSync(path);
    } catch (cause) {
      throw new SluiceError('ERR_CONFIG_FILE', `source ${name}: cannot read the ${what} ${path}: ${errorMessage(cause)}`, { cause });
    }
  };
  return {
    password: read('password file', passwordFile)
      ?.toString('utf8')
      .replace(/\r?\n$/, ''),
    ca: read('CA file', caFile),
    cert: read('certificate', certFile),
    key: read('key', keyFile),
  };
}
