/**
 * What the lake knows of an import, besides the positions of its lane in the log.
 *
 * Layout: `_sluice/imports/<id>.json`, put if absent before the first batch: how the file is read, so that a resumed import
 * cuts the same batches; `_sluice/imports/<id>.done.json`, put when all of it is committed. The id is the first 32 hex
 * digits of the SHA-256 of the file's bytes: its name and place do not matter. It is the epoch of the import's lane.
 *
 * Crash: before the first object nothing has happened; between the two the lane's position says how far it is; without
 * the second, the next run reads the file to its end, finds everything committed and writes it.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { z } from 'zod';
import { SluiceError, errorMessage } from '../../shared/errors.ts';
import type { ObjectStore } from '../lake/store.ts';
import type { Mapping } from './mapping.ts';

export interface ImportPlan {
  readonly gateway: string;
  readonly format: string;
  readonly delimiter: string;
  readonly mapping: Mapping;
}

const recordSchema = z.object({ plan: z.string(), file: z.string(), startedUs: z.int().min(0) });
export type ImportRecord = z.infer<typeof recordSchema>;

const doneSchema = z.object({
  finishedUs: z.int().min(0),
  rows: z.int().min(0),
  readings: z.int().min(0),
  rejected: z.int().min(0),
  batches: z.int().min(0),
});
export type ImportDone = z.infer<typeof doneSchema>;

/** Of the file's bytes. @throws SluiceError ERR_IMPORT_FILE */
export async function importIdOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
  } catch (cause) {
    throw new SluiceError('ERR_IMPORT_FILE', `${file} cannot be read: ${errorMessage(cause)}`, { cause });
  }
  return hash.digest('hex').slice(0, 32);
}

function keyOf(id: string, part: 'done' | null): string {
  return `_sluice/imports/${id}${part === null ? '' : '.done'}.json`;
}

async function read<S extends z.ZodType>(store: ObjectStore, key: string, schema: S): Promise<z.output<S> | null> {
  const bytes = await store.get(key);
  return bytes === null ? null : schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
}

function bytesOf(value: ImportRecord | ImportDone): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

export function readRecord(store: ObjectStore, id: string): Promise<ImportRecord | null> {
  return read(store, keyOf(id, null), recordSchema);
}

export function readDone(store: ObjectStore, id: string): Promise<ImportDone | null> {
  return read(store, keyOf(id, 'done'), doneSchema);
}

/** @throws SluiceError ERR_IMPORT_CONFLICT when the file's import was begun with another plan */
export function checkPlan(record: ImportRecord, plan: ImportPlan): void {
  if (record.plan === JSON.stringify(plan)) return;
  throw new SluiceError(
    'ERR_IMPORT_CONFLICT',
    `an import of this file was begun with other flags, and goes on only with those: ${record.plan.slice(0, 1_000)}`,
  );
}

/** @throws SluiceError ERR_IMPORT_CONFLICT when somebody else has begun it since it was looked for */
export async function writeRecord(store: ObjectStore, id: string, record: ImportRecord): Promise<void> {
  if ((await store.putIfAbsent(keyOf(id, null), bytesOf(record))) === 'created') return;
  const other = await readRecord(store, id);
  // Equal: this put, whose answer was lost.
  if (other?.startedUs === record.startedUs && other.plan === record.plan) return;
  throw new SluiceError('ERR_IMPORT_CONFLICT', 'another process has just begun to import this file; run again to go on together');
}

export async function writeDone(store: ObjectStore, id: string, done: ImportDone): Promise<void> {
  await store.putIfAbsent(keyOf(id, 'done'), bytesOf(done));
}
