/** The numbers at the top: how the hub does. Ages are told by the hub's clock, since this machine's may be another. */
import type { ExceptionsAnswer, GatewaysAnswer } from './answers.ts';
import { byId, setText } from './dom.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';

/** A commit: its time by the hub's clock, and what had been committed with it. */
interface Commit {
  readonly atMs: number;
  readonly total: number;
}

/** Commits come in lumps: the rate is taken from commit to commit, over some of them. */
const RATE_SPAN_MS = 20_000;
/** Without a commit for so long nothing flows. */
const IDLE_MS = 90_000;
const DAY_MS = 86_400_000;

export class Tiles {
  #commits: Commit[] = [];
  #age: { readonly ms: number; readonly atMs: number } | null = null;

  showHub({ time, hub }: GatewaysAnswer): void {
    const hubMs = Date.parse(time);
    this.#age = hub.last_commit === null ? null : { ms: hubMs - Date.parse(hub.last_commit), atMs: performance.now() };
    if (hub.last_commit !== null) this.#sample({ atMs: Date.parse(hub.last_commit), total: hub.readings_committed });
    const rate = hub.last_commit === null || hubMs - Date.parse(hub.last_commit) > IDLE_MS ? 0 : this.#rate();
    setText(byId('tile-rate'), rate === null ? '…' : formatCount(rate));
    setText(byId('tile-pending'), formatCount(hub.pending_readings));
    const note = hub.uplinks_paused ? 'readings; gateways are held back' : `readings, ${formatBytes(hub.pending_bytes)}`;
    setText(byId('tile-pending-note'), note);
    const error = byId('lake-error');
    error.hidden = hub.lake_error === null;
    setText(error, `The lake cannot be written: ${hub.lake_error ?? ''}. Nothing is lost; gateways keep what is not committed.`);
    this.tick();
  }

  showExceptions({ rows, next_cursor }: ExceptionsAnswer, nowMs: number): void {
    const recent = rows.filter(({ ingested_at }) => Date.parse(ingested_at) > nowMs - DAY_MS).length;
    const tile = byId('tile-exceptions');
    setText(tile, `${formatCount(recent)}${recent === rows.length && next_cursor !== null ? ' or more' : ''}`);
    tile.className = recent > 0 ? 'warn' : '';
  }

  /** The age grows between two answers as well. */
  tick(): void {
    const ageMs = this.#age === null ? null : Math.max(0, this.#age.ms + performance.now() - this.#age.atMs);
    setText(byId('tile-commit'), ageMs === null ? 'none yet' : formatDuration(ageMs));
    byId('tile-commit-note').hidden = ageMs === null;
  }

  #sample(commit: Commit): void {
    const newest = this.#commits.at(-1);
    if (newest?.atMs === commit.atMs) return;
    // The hub has started anew and counts from zero, or its clock was set back.
    if (newest !== undefined && (newest.total > commit.total || newest.atMs > commit.atMs)) this.#commits = [];
    this.#commits.push(commit);
    while (this.#commits.length > 2 && (this.#commits[1]?.atMs ?? 0) <= commit.atMs - RATE_SPAN_MS) this.#commits.shift();
  }

  #rate(): number | null {
    const [oldest, newest] = [this.#commits[0], this.#commits.at(-1)];
    if (oldest === undefined || newest === undefined || newest === oldest) return null;
    return ((newest.total - oldest.total) * 1000) / (newest.atMs - oldest.atMs);
  }
}
