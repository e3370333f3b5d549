/**
 * An MQTT 3.1.1 client with a persistent session that keeps to the letter of the standard, for counting what a broker owes it.
 *
 * Constraints: its side of the session (what it has sent and not seen acknowledged, the QoS 2 ids that it has received and not seen
 * released) is kept over every loss of the connection and never over anything else: this process does not die. After a reconnect
 * it sends again, in order and with DUP, what was not acknowledged, and the PUBRELs that were not completed [MQTT-4.4.0-1]. A QoS 2
 * message counts at its PUBLISH and its id until PUBREL ([MQTT-4.3.3-2], method B); QoS 1 at each PUBLISH.
 *
 * A library would do most of it, and hide what is to be seen here: MQTT.js sends again without DUP and one message at a time.
 */
import { connect, type Socket } from 'node:net';
import { mqttPacket, mqttString } from '../e2e/raw-clients.ts';
import { PacketCutter, type Packet } from './early-ack.ts';

const [CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK] = [2, 3, 4, 5, 6, 7, 9, 11];
/** What ends an exchange that this client has begun. */
const LAST_ANSWERS: readonly number[] = [PUBACK, PUBCOMP, SUBACK, UNSUBACK];
const RECONNECT_MS = 60;
/** A gateway that hangs before it dies answers nothing; a client gives up on it as one with a keep-alive would. */
const CONNECT_TIMEOUT_MS = 3_000;
const MESSAGE_ID_MAX = 65_535;

export interface SessionClientOptions {
  readonly clientId: string;
  readonly port: number;
  /** false: the gateway keeps nothing of it. */
  readonly isPersistent?: boolean;
  /** From a message to its acknowledgement: room for a fault in between. */
  readonly ackDelayMs?: number;
  /** Each message that counts. @param isRetained sent because it was retained when the subscription came */
  readonly onMessage?: (topic: string, payload: Buffer, isRetained: boolean) => void;
  /** What a broker may not do. */
  readonly onWrong?: (text: string) => void;
}

interface Unfinished {
  readonly resolve: () => void;
  readonly onCompleted: () => void;
  /** How it is sent again. */
  packet: Buffer;
  /** QoS 2: PUBREC has come. */
  released: boolean;
}

function ackPacket(type: number, id: number): Buffer {
  return Buffer.from([(type << 4) | (type === PUBREL ? 2 : 0), 2, id >> 8, id & 0xff]);
}

function idBytes(id: number): Buffer {
  return Buffer.from([id >> 8, id & 0xff]);
}

export class SessionClient {
  /** How often the connection was made. */
  connects = 0;
  /** Messages that came at QoS 1 or 2 with an id of the broker's. */
  received = 0;
  readonly #options: SessionClientOptions;
  readonly #unfinished = new Map<number, Unfinished>();
  readonly #notReleased = new Map<number, Buffer>();
  #socket: Socket | null = null;
  #isConnected = false;
  #isAwake = false;
  #hasSession = false;
  #nextId = 0;
  #reconnect: NodeJS.Timeout | null = null;

  constructor(options: SessionClientOptions) {
    this.#options = options;
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** What it has sent and not seen through. */
  get unfinished(): number {
    return this.#unfinished.size;
  }

  /** Connects, and again whenever the connection is lost, until it sleeps. */
  wake(): void {
    this.#isAwake = true;
    if (this.#socket === null && this.#reconnect === null) this.#connect();
  }

  /** Is gone without a word, as a device whose battery is out. */
  sleep(): void {
    this.#isAwake = false;
    if (this.#reconnect !== null) clearTimeout(this.#reconnect);
    this.#reconnect = null;
    this.cut();
  }

  /** Loses its connection. */
  cut(): void {
    this.#socket?.destroy();
  }

  /**
   * @param onCompleted the exchange is over: PUBACK at QoS 1, PUBCOMP at QoS 2
   * @returns when it is acknowledged: PUBACK at QoS 1, PUBREC at QoS 2
   */
  publish(topic: string, payload: Uint8Array, qos: 1 | 2, isRetained: boolean, onCompleted: () => void): Promise<void> {
    const id = this.#freeId();
    const body = Buffer.concat([mqttString(topic), idBytes(id), payload]);
    return this.#request(id, mqttPacket((PUBLISH << 4) | (qos << 1) | (isRetained ? 1 : 0), body), onCompleted);
  }

  /** @returns when SUBACK has come */
  subscribe(filters: readonly string[], qos: 0 | 1 | 2): Promise<void> {
    const id = this.#freeId();
    const parts = filters.flatMap((filter) => [mqttString(filter), Buffer.from([qos])]);
    return this.#request(id, mqttPacket(0x82, Buffer.concat([idBytes(id), ...parts])));
  }

  /** @returns when UNSUBACK has come */
  unsubscribe(filter: string): Promise<void> {
    const id = this.#freeId();
    return this.#request(id, mqttPacket(0xa2, Buffer.concat([idBytes(id), mqttString(filter)])));
  }

  #freeId(): number {
    do this.#nextId = (this.#nextId % MESSAGE_ID_MAX) + 1;
    while (this.#unfinished.has(this.#nextId));
    return this.#nextId;
  }

  #request(id: number, packet: Buffer, onCompleted = (): void => undefined): Promise<void> {
    return new Promise((resolve) => {
      this.#unfinished.set(id, { resolve, onCompleted, packet, released: false });
      if (!this.#isConnected) return;
      this.#socket?.write(packet);
      this.#sent(id);
    });
  }

  /** From now on it is a repetition. */
  #sent(id: number): void {
    const entry = this.#unfinished.get(id);
    if (entry === undefined || entry.packet[0] >> 4 !== PUBLISH) return;
    entry.packet = Buffer.from(entry.packet);
    entry.packet[0] |= 0x08;
  }

  #connect(): void {
    const { port, clientId, isPersistent = true } = this.#options;
    const socket = connect(port, '127.0.0.1');
    this.#socket = socket;
    const cutter = new PacketCutter();
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => {
      if (!this.#isConnected) socket.destroy();
    });
    const flags = Buffer.from([4, isPersistent ? 0 : 2, 0, 0]); // level 4, clean session, no keep-alive
    socket.once('connect', () => socket.write(mqttPacket(0x10, Buffer.concat([mqttString('MQTT'), flags, mqttString(clientId)]))));
    socket.on('data', (chunk) => {
      for (const packet of cutter.cut(chunk)) if (this.#socket === socket) this.#take(socket, packet);
    });
    socket.on('error', () => undefined); // 'close' follows
    socket.on('close', () => {
      this.#socket = null;
      this.#isConnected = false;
      if (!this.#isAwake) return;
      this.#reconnect = setTimeout(() => {
        this.#reconnect = null;
        this.#connect();
      }, RECONNECT_MS);
    });
  }

  #take(socket: Socket, packet: Packet): void {
    if (packet.type === CONNACK) return this.#begin(socket, packet.body);
    if (packet.type === PUBLISH) return this.#message(socket, packet);
    const id = packet.body.readUInt16BE(0);
    const entry = this.#unfinished.get(id);
    if (packet.type === PUBREL) {
      this.#notReleased.delete(id);
      this.#answer(socket, PUBCOMP, id);
    } else if (packet.type === PUBREC) {
      socket.write(ackPacket(PUBREL, id));
      if (entry === undefined) return;
      entry.released = true;
      entry.packet = ackPacket(PUBREL, id);
      entry.resolve();
    } else if (LAST_ANSWERS.includes(packet.type)) {
      if (packet.type === PUBCOMP && entry?.released === false) this.#wrong(`PUBCOMP for ${id} before its PUBREC`);
      this.#unfinished.delete(id);
      entry?.resolve();
      entry?.onCompleted();
    }
  }

  #begin(socket: Socket, body: Buffer): void {
    if (body[1] !== 0) {
      socket.destroy(); // not ready yet
      return;
    }
    const isPresent = (body[0] & 1) === 1;
    if (this.#hasSession && !isPresent) this.#wrong('the gateway has forgotten the session');
    this.connects++;
    this.#isConnected = true;
    for (const [id, { packet }] of this.#unfinished) {
      socket.write(packet);
      this.#sent(id);
    }
  }

  /** A subscription that was acknowledged must be there whenever it connects again. */
  expectSession(): void {
    this.#hasSession = true;
  }

  #message(socket: Socket, { qos, bytes, body }: Packet): void {
    const topicEnd = 2 + body.readUInt16BE(0);
    const topic = body.toString('utf8', 2, topicEnd);
    const payload = body.subarray(topicEnd + (qos > 0 ? 2 : 0));
    const isRetained = (bytes[0] & 1) === 1;
    if (qos === 0) {
      this.#options.onMessage?.(topic, payload, isRetained);
      return;
    }
    this.received++;
    const id = body.readUInt16BE(topicEnd);
    const known = this.#notReleased.get(id);
    if (known === undefined) this.#options.onMessage?.(topic, payload, isRetained);
    else if (!known.equals(body)) this.#wrong(`id ${id} carries another message before it was released`);
    if (qos === 2) this.#notReleased.set(id, Buffer.from(body));
    this.#answer(socket, qos === 1 ? PUBACK : PUBREC, id);
  }

  #answer(socket: Socket, type: number, id: number): void {
    const { ackDelayMs = 0 } = this.#options;
    if (ackDelayMs === 0) socket.write(ackPacket(type, id));
    else setTimeout(() => socket.writable && socket.write(ackPacket(type, id)), ackDelayMs);
  }

  #wrong(text: string): void {
    this.#options.onWrong?.(`${this.#options.clientId}: ${text}`);
  }
}
