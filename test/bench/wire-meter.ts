/** A TCP relay that counts: what two programs really send each other, protocol overhead of TCP/IP not included. */
import { connect, createServer, type Server, type Socket } from 'node:net';

export class WireMeter {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** From the side that connects. */
  upBytes = 0;
  downBytes = 0;

  static async start(targetPort: number): Promise<WireMeter> {
    const meter = new WireMeter(targetPort);
    await new Promise<void>((resolve) => meter.#server.listen(0, '127.0.0.1', resolve));
    return meter;
  }

  private constructor(targetPort: number) {
    this.#server = createServer((near) => {
      const far = connect(targetPort, '127.0.0.1');
      for (const socket of [near, far]) {
        socket.setNoDelay(true);
        this.#sockets.add(socket);
        socket.on('close', () => {
          this.#sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
        socket.on('error', () => socket.destroy()); // told by the other side's end
      }
      near.on('data', (chunk) => (this.upBytes += chunk.length));
      far.on('data', (chunk) => (this.downBytes += chunk.length));
      near.pipe(far);
      far.pipe(near);
    });
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the relay does not listen');
    return address.port;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}
