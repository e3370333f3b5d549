/** A TCP link that a test can cut, or leave half-open: packets vanish and nobody is told. */
import { connect, createServer, type Server, type Socket } from 'node:net';

export class Link {
  readonly port: number;
  #server: Server;
  #sockets = new Set<Socket>();
  #silent = false;
  #refusing = false;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async to(targetPort: number): Promise<Link> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no TCP address');
    const link = new Link(server, address.port);
    server.on('connection', (near) => link.#join(near, targetPort));
    return link;
  }

  #join(near: Socket, targetPort: number): void {
    if (this.#refusing) {
      near.destroy();
      return;
    }
    const far = connect(targetPort, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('data', (chunk) => {
        if (!this.#silent) to.write(chunk);
      });
      from.on('error', () => undefined); // a cut link has errors; the ends are what is under test
      from.on('close', () => {
        this.#sockets.delete(from);
        if (!this.#silent) to.destroy();
      });
    }
  }

  /** Resets every connection and refuses new ones. */
  cut(): void {
    this.#refusing = true;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Nothing gets through any more on the connections that there are, without a FIN; new ones stay silent too. */
  halfOpen(): void {
    this.#silent = true;
  }

  /** New connections work again; silent ones stay dead, as after a NAT forgot them. */
  heal(): void {
    this.#refusing = false;
    if (!this.#silent) return;
    this.#silent = false;
    for (const socket of this.#sockets) {
      socket.removeAllListeners('data');
      socket.resume();
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
