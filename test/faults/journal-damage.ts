/** Where to hurt a gateway's journal (its files, while the gateway is dead). */
import Database from 'better-sqlite3';
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { overwrite } from './bytes.ts';
import type { SeededRandom } from './random.ts';

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const FRAMES_MIN = 20;
/**
 * Damage in the last commits of a WAL cannot be told from a commit that was interrupted (docs/guarantees.md, 8); only what
 * stands before is hurt.
 */
const HURT_SHARE = 0.5;

function databaseOf(dataDir: string): string {
  return path.join(dataDir, 'journal', 'journal.db');
}

export function hurtDatabase(dataDir: string, random: SeededRandom): string | null {
  const file = databaseOf(dataDir);
  return statSync(file).size < 10_000 ? null : overwrite(file, random);
}

/** Frames of the newest generation, as their salts say (SQLite file format, section 4.1). */
function liveFrames(wal: Buffer): { count: number; bytes: number } {
  const bytes = FRAME_HEADER_BYTES + wal.readUInt32BE(8);
  const salts = wal.subarray(16, 24);
  let count = 0;
  for (let at = HEADER_BYTES; at + bytes <= wal.length && wal.subarray(at + 8, at + 16).equals(salts); at += bytes) count++;
  return { count, bytes };
}

export function hurtWal(dataDir: string, random: SeededRandom): string | null {
  const file = `${databaseOf(dataDir)}-wal`;
  if (!existsSync(file) || statSync(file).size < 10_000) return null;
  const { count, bytes } = liveFrames(readFileSync(file));
  return count < FRAMES_MIN ? null : overwrite(file, random, HEADER_BYTES, HEADER_BYTES + Math.floor(count * HURT_SHARE) * bytes);
}

export interface HurtBatch {
  readonly text: string;
  readonly readings: number;
  /** It may have been offered to the hub. */
  readonly hasSeq: boolean;
}

/** Flips bits in the body of a sealed batch, and leaves the database sound: what a worn flash cell does. */
export function hurtBatch(dataDir: string, random: SeededRandom): HurtBatch | null {
  const db = new Database(databaseOf(dataDir));
  try {
    const rows = db
      .prepare<[], { id: number; seq: number | null; readings: number; body: Buffer }>(
        'SELECT id, seq, readings, body FROM batch JOIN batch_body USING (id)',
      )
      .all();
    if (rows.length === 0) return null;
    const { id, seq, readings, body } = random.pick(rows);
    const at = random.index(body.length);
    body[at] = (body[at] ?? 0) ^ (1 + random.index(255));
    db.prepare('UPDATE batch_body SET body = ? WHERE id = ?').run(body, id);
    return {
      text: `batch ${id} (seq ${seq ?? 'none yet'}, ${readings} readings): 1 at ${at} of ${body.length} bytes`,
      readings,
      hasSeq: seq !== null,
    };
  } finally {
    db.close();
  }
}
