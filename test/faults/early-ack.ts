/**
 * The negative control of every scenario in which a gateway may die: a gateway that acknowledges on receipt.
 *
 * It stands between the devices and a sound gateway, answers PUBLISH with PUBACK or PUBREC (and PUBREL with PUBCOMP) at
 * once, and keeps the gateway's own acknowledgements to itself. What dies with the gateway before its commit has thus been
 * acknowledged and is lost; a lab that does not report it sees nothing.
 *
 * MQTT 3.1.1, section 2.2: a packet is a byte of type and flags, a length of one to four bytes (7 bits each), a body.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

const PUBLISH = 3;
const PUBACK = 4;
const PUBREC = 5;
const PUBREL = 6;
const PUBCOMP = 7;

export interface Packet {
  readonly type: number;
  readonly qos: number;
  readonly body: Buffer;
  readonly bytes: Buffer;
}

/** Cuts a stream into packets; what is not whole waits for more. */
export class PacketCutter {
  #rest: Buffer = Buffer.alloc(0);

  cut(chunk: Buffer): Packet[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const packets: Packet[] = [];
    for (;;) {
      let length = 0;
      let headBytes = 1;
      for (let shift = 0; ; shift += 7, headBytes++) {
        if (this.#rest.length <= headBytes) return packets;
        const byte = this.#rest[headBytes];
        length |= (byte & 0x7f) << shift;
        if (byte < 0x80) break;
      }
      headBytes++;
      if (this.#rest.length < headBytes + length) return packets;
      const first = this.#rest[0];
      const bytes = this.#rest.subarray(0, headBytes + length);
      packets.push({ type: first >> 4, qos: (first >> 1) & 3, body: bytes.subarray(headBytes), bytes });
      this.#rest = this.#rest.subarray(headBytes + length);
    }
  }
}

/** The acknowledgement that a broken gateway would give at once; null: none is due. */
export function earlyAckOf(packet: Packet): Buffer | null {
  const ack = (type: number, id: number): Buffer => Buffer.from([type << 4, 2, id >> 8, id & 0xff]);
  if (packet.type === PUBREL) return ack(PUBCOMP, packet.body.readUInt16BE(0));
  if (packet.type !== PUBLISH || packet.qos === 0) return null;
  return ack(packet.qos === 1 ? PUBACK : PUBREC, packet.body.readUInt16BE(2 + packet.body.readUInt16BE(0)));
}

export class EarlyAckProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Acknowledged without anybody having stored anything. */
  earlyAcks = 0;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async to(targetPort: number): Promise<EarlyAckProxy> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no TCP address');
    const proxy = new EarlyAckProxy(server, address.port);
    server.on('connection', (device) => proxy.#join(device, connect(targetPort, '127.0.0.1')));
    return proxy;
  }

  #join(device: Socket, gateway: Socket): void {
    const fromDevice = new PacketCutter();
    const fromGateway = new PacketCutter();
    device.on('data', (chunk) => {
      for (const packet of fromDevice.cut(chunk)) {
        gateway.write(packet.bytes);
        const ack = earlyAckOf(packet);
        if (ack === null) continue;
        this.earlyAcks++;
        device.write(ack);
      }
    });
    gateway.on('data', (chunk) => {
      for (const packet of fromGateway.cut(chunk)) {
        if (packet.type !== PUBACK && packet.type !== PUBREC && packet.type !== PUBCOMP) device.write(packet.bytes);
      }
    });
    for (const [socket, other] of [
      [device, gateway],
      [gateway, device],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined); // the end of one is the end of the other, below
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
