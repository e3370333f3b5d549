/** The clock as `/v1/status` tells of it. Times are µs since the epoch, differences µs. */
import type { GatewayClock } from './clock.ts';
import type { DeviceClocks } from './clock-devices.ts';

/** As many as a page shows; those that are off the most. */
const DEVICES_SHOWN = 50;

export function clockDocument(clock: GatewayClock, devices: DeviceClocks): Record<string, unknown> {
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
    devices: devices.worst(DEVICES_SHOWN).map(({ device, aheadUs, appliedUs }) => ({ device, ahead_us: aheadUs, applied_us: appliedUs })),
    devices_untracked: devices.untracked,
    events: events.map((event) => ({ at_us: event.atUs, kind: event.kind, source: event.source, step_us: event.stepUs })),
  };
}
