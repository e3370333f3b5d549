/** A real broker (aedes) for tests, that keeps what was published and can be killed and started again on its port. */
import net, { type AddressInfo } from 'node:net';
import { Aedes } from 'aedes';

export interface ReceivedMessage {
  readonly clientId: string;
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: number;
  readonly dup: boolean;
}

export class TestBroker {
  readonly received: ReceivedMessage[] = [];
  /** false: messages are taken and never acknowledged, as by a gateway that dies between its commit and the ack. */
  acknowledges = true;
  port = 0;
  #server: net.Server | null = null;
  #broker: Aedes | null = null;
  readonly #sockets = new Set<net.Socket>();

  get url(): string {
    return `mqtt://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const broker = await Aedes.createBroker();
    broker.authorizePublish = (client, packet, callback) => {
      this.received.push({
        clientId: client?.id ?? '',
        topic: packet.topic,
        payload: Buffer.from(packet.payload),
        qos: packet.qos,
        dup: packet.dup,
      });
      if (this.acknowledges) callback(null);
    };
    const server = net.createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      broker.handle(socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, '127.0.0.1', resolve);
    });
    this.port = (server.address() as AddressInfo).port;
    this.#server = server;
    this.#broker = broker;
  }

  /** As SIGKILL does it: sockets are reset, sessions are gone, the port is closed. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server === null) return;
    this.#server = null;
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
    this.#broker?.close();
  }
}
