/**
 * What an MQTT source must know of its session at the broker after a restart: what it is subscribed to, and up to when it
 * has had everything.
 *
 * Layout: one JSON file, replaced by rename. A crash leaves the old or the new one. Without it, or with a damaged one, the
 * source subscribes anew and may take a retained message again that it has had; nothing is lost.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

const sessionSchema = z.strictObject({
  version: z.literal(1),
  url: z.string(),
  clientId: z.string(),
  topics: z.array(z.string()).max(256),
  /** Wall clock, µs: up to then the source was connected. Retained messages with older event times are known. */
  connectedUntilUs: z.number(),
});
export type MqttSession = Omit<z.infer<typeof sessionSchema>, 'version'>;

export function readSession(file: string): MqttSession | null {
  try {
    return sessionSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return null; // none yet, or damaged: see above
  }
}

/** @throws Error of the file system */
export function writeSession(file: string, session: MqttSession): void {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(`${file}.tmp`, JSON.stringify({ version: 1, ...session }), { mode: 0o600 });
  renameSync(`${file}.tmp`, file);
}
