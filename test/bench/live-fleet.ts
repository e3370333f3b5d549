/**
 * Live traffic of many gateways: each has devices of its own, which send ten times a second, and a batch per second, sent as
 * soon as its second is over, one gateway after the other.
 *
 * Batches are sealed before their time comes: sealing is the gateways' work, and would take the hub's cores.
 */
import { encodeBatch } from '../../shared/batch/encode.ts';
import { sortIntoRuns } from '../../shared/batch/runs.ts';
import type { HubProgram, Site } from './processes.ts';
import { referenceFleet, REFERENCE_START_US } from './reference-fleet.ts';
import { UplinkClient, type SealedBody } from './uplink-client.ts';

const DEVICES = 250;
const PER_SECOND = 10;
const METRICS = 4;
export const READINGS_PER_BATCH = DEVICES * METRICS * PER_SECOND;
/** What sealing a reading takes at most, for the time at which what is sealed begins. */
const SEAL_US_PER_READING = 0.3;
const TICK_MS = 5;

export class LiveFleet {
  readonly #clients: readonly UplinkClient[];
  readonly #base = referenceFleet({ devices: DEVICES, seconds: PER_SECOND, seed: 1 });

  /** @param readingsPerSecond of all gateways together */
  static async connect(site: Site, hub: HubProgram, readingsPerSecond: number): Promise<LiveFleet> {
    const count = Math.max(1, Math.round(readingsPerSecond / READINGS_PER_BATCH));
    const tokens = await site.gatewayTokens(Array.from({ length: count }, (_, index) => `gw-live-${index}`));
    const clients: UplinkClient[] = [];
    for (const token of tokens) clients.push(await UplinkClient.connect(hub, token));
    return new LiveFleet(clients);
  }

  private constructor(clients: readonly UplinkClient[]) {
    this.#clients = clients;
  }

  get gateways(): number {
    return this.#clients.length;
  }

  /** The first gateway's are those of the reference fleet; those of the others have another name. */
  device(gateway: number, index: number): string {
    const { device } = this.#base.table[index * METRICS];
    return gateway === 0 ? device : `g${gateway}-${device}`;
  }

  /**
   * Seals so many seconds, waits until the first of them is over and sends them in their time.
   *
   * @returns stops sending, and tells how many batches were not committed
   */
  async run(seconds: number): Promise<() => number> {
    const sealMs = (seconds * this.gateways * READINGS_PER_BATCH * SEAL_US_PER_READING) / 1000;
    const startUs = (Date.now() + Math.ceil(sealMs)) * 1000;
    const batches: SealedBody[][] = [];
    for (let second = 0; second < seconds; second++) {
      batches.push(this.#sealSecond(startUs + second * 1_000_000));
      await new Promise((resolve) => setImmediate(resolve));
    }
    const endOfFirstMs = startUs / 1000 + 1_000;
    let sent = 0;
    const timer = setInterval(() => {
      const due = Math.min(seconds * this.gateways, Math.floor(((Date.now() - endOfFirstMs) / 1000) * this.gateways));
      for (; sent < due; sent++) this.#clients[sent % this.gateways].send(batches[Math.floor(sent / this.gateways)][sent % this.gateways]);
    }, TICK_MS);
    while (Date.now() < endOfFirstMs) await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    return () => {
      clearInterval(timer);
      return this.#clients.reduce((sum, { heldBatches }) => sum + heldBatches, 0);
    };
  }

  #sealSecond(fromUs: number): SealedBody[] {
    const { columns, table } = this.#base;
    // The fleet's own ten seconds in one.
    const eventTimeUs = columns.eventTimeUs.map((us) => fromUs + Math.floor((us - REFERENCE_START_US) / PER_SECOND));
    const [arrivalFromUs, sealedUs] = [fromUs, fromUs + 1_000_000];
    return this.#clients.map((_, gateway) => {
      const own = gateway === 0 ? table : table.map((series) => ({ ...series, device: `g${gateway}-${series.device}` }));
      const runs = sortIntoRuns({ ...columns, eventTimeUs }, own);
      return {
        body: encodeBatch({ sealedUs, arrivalFromUs, arrivalToUs: sealedUs, runs, exceptions: [] }, 'br'),
        readingCount: READINGS_PER_BATCH,
      };
    });
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}
