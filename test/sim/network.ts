/**
 * The network between gateways and hubs: sockets that look like ws's, over links that delay, cut, lose and repeat.
 *
 * Frames of one direction stay in order. A frame that vanishes while the socket lives is more than TCP does; the protocol
 * allows it all the same (positions are cumulative, holes are answered by a rewind), so it is tried.
 */
import { EventEmitter } from 'node:events';
import type { WebSocket } from 'ws';
import type { SimRandom } from './random.ts';
import type { Scheduler, SimProcess } from './scheduler.ts';

export interface NetworkConditions {
  delayMsMin: number;
  delayMsMax: number;
  /** Of frames for which `mayMeddle` says yes. */
  lossRatio: number;
  duplicateRatio: number;
  damageRatio: number;
}

export interface Target {
  readonly process: SimProcess;
  /** @param gateway whose token the request carries */
  accept(socket: WebSocket, gateway: string): void;
}

/** What may happen to a frame: `mayLose` for loss and repetition, `damage` answers it with a bit flipped, or null. */
export interface Meddling {
  mayLose(frame: Uint8Array): boolean;
  damage(frame: Uint8Array, random: SimRandom): Uint8Array | null;
}

export const CALM: Readonly<NetworkConditions> = { delayMsMin: 1, delayMsMax: 30, lossRatio: 0, duplicateRatio: 0, damageRatio: 0 };

export class Network {
  readonly scheduler: Scheduler;
  readonly random: SimRandom;
  readonly meddling: Meddling;
  conditions: NetworkConditions = { ...CALM };
  readonly counters = { frames: 0, lost: 0, duplicated: 0, damaged: 0 };
  readonly #cuts = new Set<string>();
  readonly #sockets = new Set<SimSocket>();
  readonly #untrack = new WeakMap<SimSocket, () => void>();

  constructor(scheduler: Scheduler, random: SimRandom, meddling: Meddling) {
    this.scheduler = scheduler;
    this.random = random;
    this.meddling = meddling;
  }

  cut(a: string, b: string): void {
    this.#cuts.add(linkName(a, b));
  }

  heal(a: string, b: string): void {
    this.#cuts.delete(linkName(a, b));
  }

  healAll(): void {
    this.#cuts.clear();
  }

  isCut(a: string, b: string): boolean {
    return this.#cuts.has(linkName(a, b));
  }

  delayUs(): number {
    const { delayMsMin, delayMsMax } = this.conditions;
    return this.random.between(delayMsMin * 1000, delayMsMax * 1000);
  }

  /** @param target asked when the connection request arrives; null: nobody listens */
  connect(from: SimProcess, target: () => Target | null): WebSocket {
    const socket = new SimSocket(this, from);
    this.#track(socket);
    this.scheduler.after(this.delayUs(), () => {
      const found = target();
      if (found === null || !found.process.alive) {
        from.deliver(this.delayUs(), () => socket.fail('connect ECONNREFUSED'));
        return;
      }
      // No answer at all: the handshake time-out of the gateway is what ends it.
      if (this.isCut(from.name, found.process.name)) return;
      found.process.deliver(0, () => {
        const other = new SimSocket(this, found.process);
        this.#track(other);
        socket.pair(other);
        other.open();
        found.accept(other.asWebSocket(), from.name);
        other.transmit(() => socket.open());
      });
    });
    return socket.asWebSocket();
  }

  /** Breaks the open connections between two places, as a NAT or proxy does: both ends learn it, or neither. */
  reset(a: string, b: string): void {
    const isSilent = this.random.chance(0.3);
    for (const socket of [...this.#sockets]) {
      const other = socket.peer;
      if (other === null || socket.owner.name !== a || other.owner.name !== b) continue;
      for (const end of [socket, other]) {
        if (isSilent) end.mute();
        else end.owner.deliver(this.delayUs(), () => end.shut(1006));
      }
    }
  }

  #track(socket: SimSocket): void {
    this.#sockets.add(socket);
    const untrack = socket.owner.onDeath(() => {
      this.#sockets.delete(socket);
      const other = socket.peer;
      if (other === null || this.isCut(socket.owner.name, other.owner.name) || this.random.chance(0.2)) return;
      other.owner.deliver(this.delayUs(), () => other.shut(1006));
    });
    this.#untrack.set(socket, untrack);
  }

  /** It is closed. Once its peer is too, or is gone with its process, nobody holds either of them any more. */
  forget(socket: SimSocket): void {
    this.#sockets.delete(socket);
    const { peer } = socket;
    if (peer !== null && peer.readyState !== peer.CLOSED && peer.owner.alive) return;
    for (const end of peer === null ? [socket] : [socket, peer]) this.#untrack.get(end)?.();
  }
}

function linkName(a: string, b: string): string {
  return a < b ? `${a}|${b}` : `${b}|${a}`;
}

/** What LaneLink and UplinkConnection use of a WebSocket. */
export class SimSocket extends EventEmitter {
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSING = 2;
  readonly CLOSED = 3;
  readonly owner: SimProcess;
  readyState = 0;
  isPaused = false;
  readonly bufferedAmount = 0;
  peer: SimSocket | null = null;
  readonly #network: Network;
  /** When the last frame to the peer arrives: none overtakes it. */
  #lastDueUs = 0;
  #isMute = false;
  #held: (() => void)[] = [];

  constructor(network: Network, owner: SimProcess) {
    super();
    this.#network = network;
    this.owner = owner;
  }

  asWebSocket(): WebSocket {
    // Only what the two users of sockets touch is there; the rest of ws's interface is not part of the simulation.
    return this as unknown as WebSocket;
  }

  pair(other: SimSocket): void {
    this.peer = other;
    other.peer = this;
  }

  open(): void {
    if (this.readyState !== this.CONNECTING) return;
    this.readyState = this.OPEN;
    this.emit('open');
  }

  /** Neither end hears of the other any more. */
  mute(): void {
    this.#isMute = true;
  }

  send(frame: Uint8Array, done: () => void): void {
    const { conditions, random, meddling, counters } = this.#network;
    counters.frames++;
    this.owner.deliver(0, done);
    let bytes = Buffer.from(frame);
    let copies = 1;
    if (meddling.mayLose(frame)) {
      if (random.chance(conditions.lossRatio)) {
        copies = 0;
        counters.lost++;
      } else if (random.chance(conditions.duplicateRatio)) {
        copies = 2;
        counters.duplicated++;
      }
    }
    if (random.chance(conditions.damageRatio)) {
      const damaged = meddling.damage(bytes, random);
      if (damaged !== null) {
        bytes = Buffer.from(damaged);
        counters.damaged++;
      }
    }
    for (let copy = 0; copy < copies; copy++) this.transmit((peer) => peer.arrive(() => peer.emit('message', Buffer.from(bytes), true)));
  }

  ping(): void {
    this.transmit((peer) =>
      peer.arrive(() => {
        peer.emit('ping');
        peer.transmit((self) => self.arrive(() => self.emit('pong')));
      }),
    );
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    for (const act of this.#held.splice(0)) this.owner.deliver(0, () => this.arrive(act));
  }

  close(code: number): void {
    if (this.readyState >= this.CLOSING) return;
    this.readyState = this.CLOSING;
    this.transmit((peer) =>
      peer.arrive(() => {
        peer.transmit((self) => self.shut(code));
        peer.shut(code);
      }),
    );
  }

  terminate(): void {
    if (this.readyState === this.CLOSED) return;
    this.transmit((peer) => peer.shut(1006));
    this.readyState = this.CLOSED;
    this.#network.forget(this);
    this.owner.deliver(0, () => this.emit('close', 1006, Buffer.alloc(0)));
  }

  fail(message: string): void {
    if (this.readyState === this.CLOSED) return;
    this.emit('error', new Error(message));
    this.shut(1006);
  }

  shut(code: number): void {
    if (this.readyState === this.CLOSED) return;
    this.readyState = this.CLOSED;
    this.#network.forget(this);
    this.emit('close', code, Buffer.alloc(0));
  }

  /** Takes effect at the peer, unless the way is cut when it gets there. */
  transmit(act: (peer: SimSocket) => void): void {
    const { peer } = this;
    // Objects of a process that has died may still run to the end of what they were about: nobody hears of it.
    if (peer === null || this.#isMute || !this.owner.alive) return;
    const { scheduler } = this.#network;
    this.#lastDueUs = Math.max(this.#lastDueUs, scheduler.nowUs + this.#network.delayUs());
    const isCut = (): boolean => peer.#isMute || this.#network.isCut(this.owner.name, peer.owner.name);
    peer.owner.deliver(this.#lastDueUs - scheduler.nowUs, () => {
      if (!isCut()) act(peer);
    });
  }

  /** A frame is here: read now, or once reading goes on. */
  arrive(act: () => void): void {
    if (this.readyState === this.CLOSED) return;
    if (this.isPaused) this.#held.push(act);
    else act();
  }
}
