/**
 * The lane of a release: what makes it happen once.
 *
 * Quarantined readings come back into the lake as seq 1 of a lane of their own, whose epoch is a hash of the exception's id. So
 * the lake's compare-and-set on lane positions decides, as it does about every batch: asked twice, by two hubs, or
 * again after a crash between, the position moves from 0 to 1 once. Positions are kept for 400 days.
 */
import { createHash } from 'node:crypto';
import type { LaneKey } from '../shared/uplink.ts';

/** Of a table row of `exceptions`. */
export interface ExceptionId {
  readonly gateway: string;
  readonly epoch: string;
  readonly lane: string;
  readonly seq: number;
  readonly idx: number;
}

/** Tells these lanes from those of gateways, whose epochs are random: one in four billion of them begins so, and is only looked up in vain. */
const PREFIX = '5e1ea5ed';

export function isReleaseEpoch(epoch: string): boolean {
  return epoch.startsWith(PREFIX);
}

export function releaseEpoch({ gateway, epoch, lane, seq, idx }: ExceptionId): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([gateway, epoch, lane, seq, idx]))
    .digest('hex');
  return `${PREFIX}${hash.slice(0, 32 - PREFIX.length)}`;
}

export function releaseLane(id: ExceptionId): LaneKey {
  return { gateway: id.gateway, epoch: releaseEpoch(id), lane: 'backfill' };
}

export function exceptionIdText({ gateway, epoch, lane, seq, idx }: ExceptionId): string {
  return `${gateway}/${epoch}/${lane}/${seq}/${idx}`;
}

/** null: not an id. */
export function parseExceptionId(text: string): ExceptionId | null {
  const match = /^([^/]{1,64})\/([0-9a-f]{32})\/(live|backfill)\/([0-9]{1,15})\/([0-9]{1,9})$/.exec(text);
  if (match === null) return null;
  const [, gateway, epoch, lane, seq, idx] = match;
  return { gateway, epoch, lane, seq: Number(seq), idx: Number(idx) };
}
