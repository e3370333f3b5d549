/** The numbers at the top: how the hub does. Ages are told by the hub's clock, since this machine's may be another. */
import type { ExceptionsAnswer, GatewaysAnswer } from './answers.ts';
import { byId, setText } from './dom.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';

interface Sample {
  readonly atMs: number;
  readonly committed: number;
}

/** Commits come in lumps of some seconds: a rate over less jumps up and down. */
const RATE_SPAN_MS = 20_000;
const DAY_MS = 86_400_000;

export class Tiles {
  #samples: Sample[] = [];
  #commit: { readonly ageMs: number; readonly atMs: number } | null = null;

  showHub({ time, hub }: GatewaysAnswer): void {
    const hubMs = Date.parse(time);
    this.#sample({ atMs: hubMs, committed: hub.readings_committed });
    this.#commit = hub.last_commit === null ? null : { ageMs: hubMs - Date.parse(hub.last_commit), atMs: performance.now() };
    const rate = this.#rate();
    setText(byId('tile-rate'), rate === null ? '…' : formatCount(rate));
    setText(byId('tile-pending'), formatCount(hub.pending_readings));
    const note = hub.uplinks_paused ? 'readings; gateways are held back' : `readings, ${formatBytes(hub.pending_bytes)}`;
    setText(byId('tile-pending-note'), note);
    const error = byId('lake-error');
    error.hidden = hub.lake_error === null;
    setText(error, `The lake cannot be written: ${hub.lake_error ?? ''}. Nothing is lost; gateways keep what is not committed.`);
    this.tick();
  }

  showExceptions({ rows, next_cursor }: ExceptionsAnswer): void {
    const recent = rows.filter(({ ingested_at }) => Date.parse(ingested_at) > Date.now() - DAY_MS).length;
    const tile = byId('tile-exceptions');
    setText(tile, `${formatCount(recent)}${recent === rows.length && next_cursor !== null ? ' or more' : ''}`);
    tile.className = recent > 0 ? 'warn' : '';
  }

  /** The age grows between two answers as well. */
  tick(): void {
    const ageMs = this.#commit === null ? null : Math.max(0, this.#commit.ageMs + performance.now() - this.#commit.atMs);
    setText(byId('tile-commit'), ageMs === null ? 'none yet' : formatDuration(ageMs));
    byId('tile-commit-note').hidden = ageMs === null;
  }

  #sample(sample: Sample): void {
    const newest = this.#samples.at(-1);
    // The hub has started anew and counts from zero, or its clock was set back.
    if (newest !== undefined && (newest.committed > sample.committed || newest.atMs > sample.atMs)) this.#samples = [];
    this.#samples.push(sample);
    while (this.#samples.length > 2 && (this.#samples[1]?.atMs ?? 0) <= sample.atMs - RATE_SPAN_MS) this.#samples.shift();
  }

  #rate(): number | null {
    const [oldest, newest] = [this.#samples[0], this.#samples.at(-1)];
    if (oldest === undefined || newest === undefined || newest.atMs - oldest.atMs < 1000) return null;
    return ((newest.committed - oldest.committed) * 1000) / (newest.atMs - oldest.atMs);
  }
}
