/**
 * Which files of a table are merged with which. Pure.
 *
 * Size-tiered: files of about the same size are merged once there are `fanIn` of them, so a row is rewritten about
 * log(rowsMax / rows of a commit) / log(fanIn) times in its life: three times at 5 k rows a commit. What is left of a
 * group that nothing comes for any more (a day that is over) is merged whatever its sizes are.
 *
 * Bounded: a job has at most `rowsMax` rows and `bytesMax` bytes, and `filesMax` files. Files of half of `rowsMax` and more
 * are left alone for good.
 */

export interface PlanFile<T> {
  readonly file: T;
  /** Only files of one group are merged: a partition, a definition. */
  readonly group: string;
  readonly rows: number;
  readonly bytes: number;
  /** Milliseconds since the Unix epoch. */
  readonly createdMs: number;
}

export interface PlanLimits {
  readonly fanIn: number;
  readonly rowsMax: number;
  readonly bytesMax: number;
  readonly filesMax: number;
}

/**
 * @param isOver nothing is expected for the group any more
 * @returns jobs of at least two files, no file twice, oldest first
 */
export function planCompaction<T>(files: readonly PlanFile<T>[], limits: PlanLimits, isOver: (group: string) => boolean): PlanFile<T>[][] {
  const groups = new Map<string, PlanFile<T>[]>();
  for (const file of files) {
    if (isFull(file, limits)) continue;
    const group = groups.get(file.group);
    if (group === undefined) groups.set(file.group, [file]);
    else group.push(file);
  }
  const jobs: PlanFile<T>[][] = [];
  for (const [group, members] of groups) {
    members.sort((a, b) => a.createdMs - b.createdMs);
    if (isOver(group)) jobs.push(...chunks(members, limits, 2));
    else for (const tier of tiersOf(members, limits.fanIn)) jobs.push(...chunks(tier, limits, limits.fanIn));
  }
  return jobs.sort((a, b) => a[0].createdMs - b[0].createdMs);
}

export function isFull({ rows, bytes }: { readonly rows: number; readonly bytes: number }, { rowsMax, bytesMax }: PlanLimits): boolean {
  return rows * 2 >= rowsMax || bytes * 2 >= bytesMax;
}

function tiersOf<T>(files: readonly PlanFile<T>[], fanIn: number): PlanFile<T>[][] {
  const tiers: PlanFile<T>[][] = [];
  for (const file of files) {
    const tier = Math.floor(Math.log(Math.max(1, file.rows)) / Math.log(fanIn));
    (tiers[tier] ??= []).push(file);
  }
  return tiers.filter((tier) => tier !== undefined);
}

/** Neighbours in time, as many as the limits allow; the last chunk waits for more unless it has `filesMin`. */
function chunks<T>(files: readonly PlanFile<T>[], limits: PlanLimits, filesMin: number): PlanFile<T>[][] {
  const jobs: PlanFile<T>[][] = [];
  let job: PlanFile<T>[] = [];
  let rows = 0;
  let bytes = 0;
  for (const file of files) {
    const isOverLimit = rows + file.rows > limits.rowsMax || bytes + file.bytes > limits.bytesMax;
    if (isOverLimit || job.length >= limits.filesMax) {
      if (job.length >= 2) jobs.push(job);
      job = [];
      rows = 0;
      bytes = 0;
    }
    job.push(file);
    rows += file.rows;
    bytes += file.bytes;
  }
  if (job.length >= filesMin) jobs.push(job);
  return jobs;
}
