/** The clock as `/v1/status` tells of it. Times are µs since the epoch, differences µs. */
import type { GatewayClock } from './clock.ts';

export function clockDocument(clock: GatewayClock): Record<string, unknown> {
  const { known, source, boot, ntp, machineAheadUs, hub, stepsForward, stepsBack, stepsIgnored, events } = clock.status();
  return {
    state: known ? 'known' : 'unknown',
    wall_us: clock.nowUs(),
    source,
    boot_id: boot,
    ntp,
    machine_ahead_us: machineAheadUs,
    hub: hub === null ? null : { ahead_us: hub.aheadUs, uncertainty_us: hub.uncertaintyUs },
    steps: { forward: stepsForward, back: stepsBack, ignored: stepsIgnored },
    events: events.map((event) => ({ at_us: event.atUs, kind: event.kind, source: event.source, step_us: event.stepUs })),
  };
}
