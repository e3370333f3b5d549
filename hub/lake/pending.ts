/**
 * Batches that were received and are not yet in the lake, by lane.
 *
 * Purpose: to say, purely, which seqs a commit may take and what is left when the log turns out to have passed some.
 * Layout: `waiting` (not in an attempt) and at most one `group` (the attempt under way), each lane's seqs contiguous:
 *   committed | group: committed+1 … | waiting: … received
 * Crash: all of it is gone, and the gateways hold every batch of it; they resend from committed + 1.
 * Bound: the caller's (`bytes`); this module refuses nothing.
 */
import assert from 'node:assert';
import type { ExceptionRecord } from '../../shared/exception.ts';
import type { SeriesRuns } from '../../shared/reading.ts';
import { laneAppId, type LaneKey } from '../../shared/uplink.ts';

export interface PendingBatch {
  readonly lane: LaneKey;
  readonly appId: string;
  /** A batch covers one seq; a gap for seqs that no gateway holds any more covers [firstSeq, seq]. */
  readonly firstSeq: number;
  readonly seq: number;
  readonly receivedUs: number;
  /** null: no readings (a gap, or a batch that could not be applied). */
  readonly runs: SeriesRuns | null;
  readonly exceptions: readonly ExceptionRecord[];
  /** UTC days (since the epoch) that its readings touch: a commit writes a file for each. */
  readonly days: readonly number[];
  /** Estimate of the memory held. */
  readonly bytes: number;
}

interface PendingLane {
  readonly key: LaneKey;
  committed: number;
  group: PendingBatch[];
  waiting: PendingBatch[];
  /** The group, counted from 1, that begins with this lane. */
  turn: number;
}

export interface GroupLimits {
  readonly readingsMax: number;
  readonly bytesMax: number;
  readonly daysMax: number;
}

export interface GroupLane {
  readonly key: LaneKey;
  readonly appId: string;
  /** The commit moves the position from → to. */
  readonly from: number;
  readonly to: number;
  readonly batches: readonly PendingBatch[];
}

export class PendingLanes {
  #lanes = new Map<string, PendingLane>();
  #bytes = 0;
  #readings = 0;
  #groupBatches = 0;
  #turn = 0;
  /** Of all groups: how often lanes were asked in turn. */
  #rounds = 0;
  #waitingReadings = 0;
  #waitingBatches = 0;
  #oldestWaitingUs: number | null = null;
  readonly #withExceptions = new Set<PendingBatch>();

  get bytes(): number {
    return this.#bytes;
  }

  get readings(): number {
    return this.#readings;
  }

  get waitingReadings(): number {
    return this.#waitingReadings;
  }

  get waitingBatches(): number {
    return this.#waitingBatches;
  }

  /** When the oldest waiting batch was received; null when none waits. */
  get oldestWaitingUs(): number | null {
    return this.#oldestWaitingUs;
  }

  get hasGroup(): boolean {
    return this.#groupBatches > 0;
  }

  lanes(): IterableIterator<PendingLane> {
    return this.#lanes.values();
  }

  /** Where the lane stands here; null before its first `settle`. */
  received(appId: string): number | null {
    const lane = this.#lanes.get(appId);
    if (lane === undefined) return null;
    return lane.waiting.at(-1)?.seq ?? lane.group.at(-1)?.seq ?? lane.committed;
  }

  committed(appId: string): number {
    return this.#lanes.get(appId)?.committed ?? 0;
  }

  /** @returns the round in which a group will take it, if limits of days leave its lane in no group out */
  add(batch: PendingBatch): number {
    const lane = this.#lanes.get(batch.appId);
    assert(lane !== undefined, 'a lane is opened before it is submitted to');
    assert.equal(batch.firstSeq, (this.received(batch.appId) ?? 0) + 1, 'seqs of a lane are submitted without holes');
    lane.waiting.push(batch);
    this.#count(batch, 1);
    this.#waitingBatches++;
    this.#waitingReadings += batch.runs?.count ?? 0;
    if (this.#oldestWaitingUs === null || batch.receivedUs < this.#oldestWaitingUs) this.#oldestWaitingUs = batch.receivedUs;
    return this.#rounds + lane.waiting.length - 1;
  }

  /**
   * Moves waiting batches into the group, lanes in turn, until a limit is reached: at most one batch above it. The first
   * lane that a limit left out begins the next group.
   */
  takeGroup(limits: GroupLimits): void {
    assert(!this.hasGroup, 'one group at a time');
    let readings = 0;
    let bytes = 0;
    const days = new Set<number>();
    const waiting = [...this.#lanes.values()].filter((lane) => lane.waiting.length > 0);
    const first = waiting.findIndex((lane) => lane.turn === this.#turn);
    const inTurn = first < 0 ? waiting : [...waiting.slice(first), ...waiting.slice(0, first)];
    this.#turn++;
    let leftOut: PendingLane | null = null;
    let rounds = 0;
    for (let progress = true; progress;) {
      progress = false;
      for (const lane of inTurn) {
        if (readings >= limits.readingsMax || bytes >= limits.bytesMax) {
          leftOut ??= lane;
          progress = false;
          break;
        }
        const batch = lane.waiting[0];
        if (batch === undefined) continue;
        const isOverDays = days.size > 0 && new Set([...days, ...batch.days]).size > limits.daysMax;
        if (isOverDays) {
          // Its lane waits for the next group; others may still fit.
          leftOut ??= lane;
          continue;
        }
        lane.waiting.shift();
        for (const day of batch.days) days.add(day);
        lane.group.push(batch);
        this.#groupBatches++;
        this.#waitingBatches--;
        this.#waitingReadings -= batch.runs?.count ?? 0;
        readings += batch.runs?.count ?? 0;
        bytes += batch.bytes;
        progress = true;
      }
      if (progress) rounds++;
    }
    if (leftOut !== null) leftOut.turn = this.#turn;
    this.#rounds += rounds;
    this.#findOldestWaiting();
  }

  /** The group, lane by lane; lanes without a batch in it are absent. */
  group(): GroupLane[] {
    const lanes: GroupLane[] = [];
    for (const lane of this.#lanes.values()) {
      const last = lane.group.at(-1);
      if (last === undefined) continue;
      lanes.push({ key: lane.key, appId: laneAppId(lane.key), from: lane.committed, to: last.seq, batches: lane.group });
    }
    return lanes;
  }

  /** Those of group and waiting ones that have exceptions: few, and every capture looks at them. */
  get withExceptions(): ReadonlySet<PendingBatch> {
    return this.#withExceptions;
  }

  *waiting(): Generator<PendingBatch> {
    for (const lane of this.#lanes.values()) yield* lane.waiting;
  }

  /** What waits, with the round of each; see `add`. */
  waitingWithRounds(): { readonly batch: PendingBatch; readonly round: number }[] {
    return [...this.#lanes.values()].flatMap((lane) => lane.waiting.map((batch, depth) => ({ batch, round: this.#rounds + depth })));
  }

  /**
   * The log says that the lane's position is `committed`: forgets what it covers.
   *
   * A position that jumped past what this hub has received drops everything of the lane; one inside a gap item cannot
   * happen, since a gap is one commit.
   * @returns what was dropped from the group and from the waiting ones.
   */
  settle(key: LaneKey, committed: number): { fromGroup: number; fromWaiting: number } {
    const appId = laneAppId(key);
    let lane = this.#lanes.get(appId);
    if (lane === undefined) {
      lane = { key, committed, group: [], waiting: [], turn: 0 };
      this.#lanes.set(appId, lane);
      return { fromGroup: 0, fromWaiting: 0 };
    }
    lane.committed = committed;
    const keep = (batch: PendingBatch): boolean => batch.seq > committed;
    const droppedGroup = lane.group.filter((batch) => !keep(batch));
    const droppedWaiting = lane.waiting.filter((batch) => !keep(batch));
    lane.group = lane.group.filter(keep);
    lane.waiting = lane.waiting.filter(keep);
    for (const batch of droppedGroup) this.#count(batch, -1);
    this.#groupBatches -= droppedGroup.length;
    for (const batch of droppedWaiting) {
      this.#count(batch, -1);
      this.#waitingBatches--;
      this.#waitingReadings -= batch.runs?.count ?? 0;
    }
    if (droppedWaiting.length > 0) this.#findOldestWaiting();
    return { fromGroup: droppedGroup.length, fromWaiting: droppedWaiting.length };
  }

  /** Drops the lane's uncommitted batches: its gateway starts again from committed + 1. */
  forget(key: LaneKey): void {
    const lane = this.#lanes.get(laneAppId(key));
    if (lane === undefined || lane.waiting.length === 0) return;
    for (const batch of lane.waiting) {
      this.#count(batch, -1);
      this.#waitingBatches--;
      this.#waitingReadings -= batch.runs?.count ?? 0;
    }
    lane.waiting = [];
    this.#findOldestWaiting();
  }

  #count(batch: PendingBatch, sign: 1 | -1): void {
    if (batch.exceptions.length > 0) {
      if (sign === 1) this.#withExceptions.add(batch);
      else this.#withExceptions.delete(batch);
    }
    this.#bytes += sign * batch.bytes;
    this.#readings += sign * (batch.runs?.count ?? 0);
  }

  #findOldestWaiting(): void {
    this.#oldestWaitingUs = null;
    for (const lane of this.#lanes.values()) {
      const first = lane.waiting[0];
      if (first !== undefined && (this.#oldestWaitingUs === null || first.receivedUs < this.#oldestWaitingUs)) {
        this.#oldestWaitingUs = first.receivedUs;
      }
    }
  }
}
