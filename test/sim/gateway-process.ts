/**
 * One gateway machine: the real journal over real SQLite files, the real uplink over simulated sockets, and where the
 * broker would be, sessions that do with a PUBLISH what the broker's gate does (gateway/broker/publish-gate.ts).
 *
 * A crash drops every object without a word. What it leaves is a copy of database and WAL as they were at that moment,
 * in a new directory: the old objects keep their old files and can do no harm.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { JournalClient, type JournalClientOptions } from '../../gateway/journal/journal-client.ts';
import type { OfferedBatch, UplinkJournal } from '../../gateway/journal/journal-api.ts';
import { startUplink } from '../../gateway/uplink/uplink.ts';
import type { UplinkSettings } from '../../gateway/uplink/settings.ts';
import { decodeBatch } from '../../shared/batch/decode.ts';
import { errorMessage } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { laneAppId, type LaneName } from '../../shared/uplink.ts';
import type { Broker, Packet, Session } from './devices.ts';
import type { LakeTruth } from './lake-truth.ts';
import type { Ledger } from './ledger.ts';
import type { Network, Target } from './network.ts';
import type { SimRandom } from './random.ts';
import { SIM_START_US, SimProcess, type Scheduler } from './scheduler.ts';

export interface GatewayParts {
  readonly scheduler: Scheduler;
  readonly random: SimRandom;
  readonly network: Network;
  readonly ledger: Ledger;
  readonly truth: LakeTruth;
  readonly logger: Logger;
  readonly directory: string;
  readonly journal: Partial<JournalClientOptions>;
  readonly uplink: Partial<UplinkSettings>;
  /** Where a new connection goes. */
  readonly route: () => Target | null;
  readonly trace: (line: string) => void;
  readonly fail: (error: unknown) => void;
}

interface OpenSession extends Session {
  isOpen: boolean;
  isCut: boolean;
}

const FILES = ['journal.db', 'journal.db-wal', 'bounds.json'];

export class SimGateway implements Broker {
  readonly name: string;
  readonly #parts: GatewayParts;
  #wallOffsetUs = 0;
  #process: SimProcess | null = null;
  #journal: JournalClient | null = null;
  #lives = 0;
  #image: { readonly directory: string; readonly takenUs: number } | null = null;
  #sessions = new Set<OpenSession>();
  /** Damage or a restored image may have taken the keys by which redeliveries are recognised. */
  #keysLost = false;
  wasRestored = false;
  wasDamaged = false;

  constructor(name: string, parts: GatewayParts) {
    this.name = name;
    this.#parts = parts;
    mkdirSync(this.#directory(0), { recursive: true });
  }

  get isUp(): boolean {
    return this.#journal !== null;
  }

  get process(): SimProcess | null {
    return this.#process;
  }

  get journal(): JournalClient | null {
    return this.#journal;
  }

  #directory(life: number): string {
    return path.join(this.#parts.directory, this.name, String(life));
  }

  step(us: number): void {
    this.#wallOffsetUs += us;
  }

  setClockRight(): void {
    this.#wallOffsetUs = 0;
  }

  /** As a machine without a battery: its wall clock begins in 1970. */
  forgetClock(): void {
    this.#wallOffsetUs = -SIM_START_US - this.#parts.scheduler.nowUs;
  }

  async start(): Promise<void> {
    const { scheduler, random, network, logger, trace } = this.#parts;
    const process = new SimProcess(scheduler, this.name, () => this.#wallOffsetUs);
    this.#process = process;
    const life = random.stream(`${this.name}/${this.#lives}`);
    const defer = (callback: () => void): void => void process.deliver(life.between(100, 15_000), callback);
    let journal: JournalClient;
    try {
      journal = await JournalClient.open({
        sealIntervalMs: 1_000,
        freeSpaceReserveBytes: 0,
        growWal: false,
        compression: 'none',
        ...this.#parts.journal,
        directory: this.#directory(this.#lives),
        clock: process,
        thread: 'inline',
        randomHex: (bytes) => life.hex(bytes),
        defer,
        onTrouble: (error) => trace(`${this.name}: ${error.code} ${error.message}`),
      });
    } catch (error) {
      assert.fail(`${this.name} does not start: ${errorMessage(error)}`);
    }
    if (!process.alive) return;
    this.#journal = journal;
    startUplink({
      url: 'ws://hub',
      token: this.name,
      caFile: null,
      journal: this.#watched(journal, process),
      clock: process,
      random: () => life.next(),
      logger,
      settings: this.#parts.uplink,
      openSocket: () => network.connect(process, this.#parts.route),
    });
    trace(`${this.name}: up, epoch ${journal.epoch.slice(0, 6)}`);
  }

  /** Dies where it stands. @param from the files that the next life starts with; default: those of this moment */
  crash(from: string | null = null): void {
    const journal = this.#journal;
    this.#process?.kill();
    this.#process = null;
    this.#journal = null;
    const before = this.#directory(this.#lives++);
    copyFiles(from ?? before, this.#directory(this.#lives));
    for (const session of this.#sessions) {
      session.isCut = this.#parts.random.chance(0.5);
      session.close();
    }
    this.#sessions.clear();
    // Only to give its files back: what it does from here on, it does to files that nobody reads any more.
    void journal?.close().then(
      () => rmSync(before, { recursive: true, force: true }),
      () => undefined,
    );
  }

  takeImage(): void {
    const directory = path.join(this.#parts.directory, this.name, 'image');
    rmSync(directory, { recursive: true, force: true });
    copyFiles(this.#directory(this.#lives), directory);
    this.#image = { directory, takenUs: this.#parts.scheduler.nowUs };
  }

  /** Dies and comes back with the files of the image. @returns false: there is none */
  restoreImage(): boolean {
    const image = this.#image;
    if (image === null) return false;
    this.crash(image.directory);
    const { ledger, truth } = this.#parts;
    ledger.restored(
      this.name,
      image.takenUs,
      ({ epoch, lane, seq }) => seq <= truth.committed(laneAppId({ gateway: this.name, epoch, lane })),
    );
    this.#keysLost = true;
    this.wasRestored = true;
    return true;
  }

  /** Overwrites bytes of the files that the next life starts with. Only between two lives. */
  damage(count: number): void {
    const { random } = this.#parts;
    for (const name of FILES) {
      const file = path.join(this.#directory(this.#lives), name);
      if (!existsSync(file)) continue;
      const bytes = readFileSync(file);
      for (let index = 0; index < count && bytes.length > 0; index++)
        bytes[random.between(0, bytes.length - 1)] ^= 1 << random.between(0, 7);
      writeFileSync(file, bytes);
    }
    this.#parts.ledger.damaged(this.name);
    this.#keysLost = true;
    this.wasDamaged = true;
  }

  connect(device: string, events: { acked(messageId: number): void; closed(): void }): Session | null {
    const process = this.#process;
    const journal = this.#journal;
    if (process === null || journal === null) return null;
    const session: OpenSession = {
      device,
      isOpen: true,
      isCut: false,
      publish: (packet, isDup) =>
        void process.deliver(0, () => {
          if (session.isOpen) this.#publish(journal, session, packet, isDup, events.acked);
        }),
      close: () => {
        if (!session.isOpen) return;
        session.isOpen = false;
        this.#sessions.delete(session);
        events.closed();
      },
    };
    this.#sessions.add(session);
    return session;
  }

  #publish(journal: JournalClient, session: OpenSession, packet: Packet, isDup: boolean, acked: (messageId: number) => void): void {
    const { writer } = journal;
    const { readings, messageId, hash } = packet;
    const { qos } = readings[0];
    const process = this.#process;
    const settle = (error: Error | null): void => {
      if (process?.alive !== true) return;
      if (error !== null) {
        session.close();
        return;
      }
      for (const reading of readings) reading.journalledUs ??= this.#parts.scheduler.nowUs;
      if (session.isOpen) acked(messageId);
    };
    const key = { clientId: session.device, messageId, hash, qos: 1 as const };
    const hasTimes = readings.every(({ eventTimeUs }) => !Number.isNaN(eventTimeUs));
    if (isDup && hasTimes && writer.isRedelivery(key, settle)) return;
    // A redelivery that cannot be recognised is taken again: a duplicate rather than a loss.
    if (isDup && (!hasTimes || this.#keysLost)) for (const reading of readings) reading.copiesMax++;
    writer.message(
      (sink) => {
        for (const { device, metric, eventTimeUs, value, text } of readings)
          sink.add(writer.series.idOf(device, metric, ''), eventTimeUs, value, text);
      },
      { redelivery: qos === 0 ? null : key, idempotencyKey: null, done: qos === 0 ? null : settle },
    );
  }

  /** The journal as its uplink sees it, with the ledger and the first invariant looking on. */
  #watched(journal: JournalClient, process: SimProcess): UplinkJournal {
    const { ledger, scheduler, truth, trace, fail } = this.#parts;
    return {
      get epoch() {
        return journal.epoch;
      },
      get lakeId() {
        return journal.lakeId;
      },
      pinLake: (lakeId) => journal.pinLake(lakeId),
      lanes: () => journal.lanes(),
      offer: async (epoch, lane, afterSeq, bytesMax) => {
        const batches = await journal.offer(epoch, lane, afterSeq, bytesMax);
        if (process.alive) for (const batch of batches) this.#note(batch, ledger, scheduler.nowUs);
        return batches;
      },
      free: (epoch, lane: LaneName, seq) => {
        const most = truth.highestEver(laneAppId({ gateway: this.name, epoch, lane }));
        if (seq > most) fail(new Error(`${this.name} frees ${epoch}/${lane} up to ${seq}; the lake never had more than ${most}`));
        return journal.free(epoch, lane, seq);
      },
      startNewEpoch: (reason) => {
        trace(`${this.name}: new epoch: ${reason}`);
        return journal.startNewEpoch(reason);
      },
      backlog: () => journal.backlog(),
      watermark: () => journal.watermark(),
      onSealed: (callback) => journal.onSealed(callback),
    };
  }

  #note({ epoch, lane, seq, body }: OfferedBatch, ledger: Ledger, nowUs: number): void {
    const { runs, exceptions } = decodeBatch(body);
    const place = { epoch, lane, seq };
    for (let row = 0; row < runs.count; row++) ledger.placed(runs.value[row], place, nowUs);
    ledger.offered(this.name, place, exceptions, nowUs);
  }

  /** Nothing unsealed, and nothing held but on lanes that have forked: those stay for an operator. */
  async isDrained(): Promise<boolean> {
    const { truth } = this.#parts;
    const journal = this.#journal;
    if (journal === null) return false;
    const { journal: held } = await journal.stats();
    if (held.journalRows > 0 || held.exceptions > 0) return false;
    const assigned = new Map((await journal.lanes()).map((claim) => [`${claim.epoch}/${claim.lane}`, claim.assigned]));
    return held.batchesByLane.every(({ epoch, lane }) => {
      if (epoch === null || lane === null) return false;
      return truth.committed(laneAppId({ gateway: this.name, epoch, lane })) > (assigned.get(`${epoch}/${lane}`) ?? Infinity);
    });
  }
}

function copyFiles(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of FILES) {
    if (existsSync(path.join(from, name))) cpSync(path.join(from, name), path.join(to, name));
    else rmSync(path.join(to, name), { force: true });
  }
}
