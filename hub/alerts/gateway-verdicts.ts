/**
 * What the state of gateways says to rules of kind `gateway`. Pure.
 *
 * A hub knows of a gateway that is connected to another one only by its watermark. So `disconnected` means that nothing was
 * heard of it here and its watermark stands still; the other conditions are judged by the hub that it is connected to, and
 * hold for everybody else as they are.
 */
import { groupKeyText } from '../../shared/window/partial-columns.ts';
import type { GatewayInfo } from '../ingest/gateways.ts';
import { nameMatcher } from '../name-patterns.ts';
import type { GatewayRule } from './rule.ts';
import type { VerdictRow } from './verdicts.ts';

/** Heartbeats come every second. */
const SILENT_US = 10_000_000;
/** Watermarks of gateways that are connected to another hub come with its flush, once a minute. */
const SILENT_ELSEWHERE_US = 150_000_000;
/** A gateway that nobody has heard of for so long is gone. */
const GONE_US = 30 * 86_400_000_000;

export interface FleetState {
  readonly gateways: readonly GatewayInfo[];
  /** Accepted, µs. */
  readonly watermarks: ReadonlyMap<string, number>;
  /** When this hub saw a watermark move last, its wall clock; absent: not since its start. */
  readonly movedUs: ReadonlyMap<string, number>;
  /** Nobody counts as silent before this hub could hear anybody. */
  readonly startedUs: number;
  readonly nowUs: number;
}

/** One row for each gateway that is judged here. `startUs`: since when, as far as that is known. */
export function gatewayVerdicts(rule: GatewayRule, fleet: FleetState): VerdictRow[] {
  const fits = rule.gateway === undefined ? () => true : nameMatcher(rule.gateway);
  const known = new Map(fleet.gateways.map((info) => [info.gateway, info]));
  return [...new Set([...known.keys(), ...fleet.watermarks.keys()])]
    .filter(fits)
    .sort()
    .flatMap((gateway) => {
      const judged = judgeGateway(rule, gateway, known.get(gateway), fleet);
      if (judged === null) return [];
      const key = groupKeyText({ gateway, device: null, metric: null, tags: null });
      return [{ key, startUs: fleet.nowUs, endUs: fleet.nowUs, closed: true, ...judged }];
    });
}

type Judged = Pick<VerdictRow, 'verdict' | 'value'> & { readonly startUs?: number };

function judgeGateway(rule: GatewayRule, gateway: string, info: GatewayInfo | undefined, fleet: FleetState): Judged | null {
  const isConnected = info !== undefined && info.connections > 0;
  if (rule.condition === 'disconnected') {
    if (isConnected) return { verdict: 'clear', value: 0 };
    const here = info?.lastContactUs ?? 0;
    const moved = fleet.movedUs.get(gateway) ?? 0;
    if (moved > here + SILENT_US && fleet.nowUs - moved < SILENT_ELSEWHERE_US) return { verdict: 'clear', value: 0 };
    if (info === undefined && fleet.nowUs - (fleet.watermarks.get(gateway) ?? 0) > GONE_US) return { verdict: 'clear', value: null };
    const heardUs = Math.max(here, moved, fleet.startedUs);
    const silentUs = fleet.nowUs - heardUs;
    // Who has just started, or has just lost it, knows nothing yet: what was stays.
    if (silentUs < (info === undefined ? SILENT_ELSEWHERE_US : SILENT_US)) return { verdict: 'hold', value: null };
    return { verdict: 'fire', value: silentUs / 1e6, startUs: heardUs };
  }
  if (!isConnected) return null;
  const above = rule.above ?? Infinity;
  if (rule.condition === 'lag') return bounded(info.lagUs / 1e6, above);
  if (rule.condition === 'backlog') return bounded(info.backlog.bytes, above);
  if (info.clock.state === 'unknown') return { verdict: 'fire', value: null };
  return bounded(Math.abs(info.clockOffsetUs ?? 0) / 1e6, above);
}

function bounded(value: number, above: number): Judged {
  return { verdict: value > above ? 'fire' : 'clear', value };
}
