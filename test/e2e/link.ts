/**
 * A TCP link that a test can hurt: cut it, tear it in the middle of what is sent, leave it half-open (packets vanish and nobody
 * is told), slow it down, lose what comes back, and deliver a second time what was sent.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

/** What is kept of a connection for a second delivery; a longer connection is not delivered twice. */
const RECORD_BYTES_MAX = 4 * 1024 * 1024;
const TEAR_AFTER_BYTES_MAX = 2_000;

export class Link {
  readonly port: number;
  #server: Server;
  #sockets = new Set<Socket>();
  #silent = false;
  #refusing = false;
  #isDeaf = false;
  #bytesPerSecond = Infinity;
  #tearAfterBytes = Infinity;
  readonly #targetPort: number;
  /** Of the newest connection. */
  #record: { chunks: Buffer[]; bytes: number } = { chunks: [], bytes: 0 };

  private constructor(server: Server, port: number, targetPort: number) {
    this.#server = server;
    this.port = port;
    this.#targetPort = targetPort;
  }

  static async to(targetPort: number): Promise<Link> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no TCP address');
    const link = new Link(server, address.port, targetPort);
    server.on('connection', (near) => link.#join(near));
    return link;
  }

  #join(near: Socket): void {
    if (this.#refusing) {
      near.destroy();
      return;
    }
    const far = connect(this.#targetPort, '127.0.0.1');
    const record = { chunks: [] as Buffer[], bytes: 0 };
    this.#record = record;
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on('data', (chunk) => {
        if (this.#silent || (this.#isDeaf && from === far)) return;
        if (from === near && record.bytes <= RECORD_BYTES_MAX) {
          record.chunks.push(chunk);
          record.bytes += chunk.length;
        }
        this.#pass(chunk, from, to);
      });
      from.on('error', () => undefined); // a cut link has errors; the ends are what is under test
      from.on('close', () => {
        this.#sockets.delete(from);
        if (!this.#silent) to.destroy();
      });
    }
  }

  #pass(chunk: Buffer, from: Socket, to: Socket): void {
    this.#tearAfterBytes -= chunk.length;
    if (this.#tearAfterBytes < 0) {
      to.write(chunk.subarray(0, chunk.length + this.#tearAfterBytes));
      this.#tearAfterBytes = Infinity;
      for (const socket of this.#sockets) socket.end(() => socket.destroy());
      return;
    }
    to.write(chunk);
    if (this.#bytesPerSecond === Infinity) return;
    from.pause();
    setTimeout(() => from.resume(), (chunk.length / this.#bytesPerSecond) * 1000);
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

  /** What the target answers vanishes; what is sent to it arrives. */
  loseAnswers(): void {
    this.#isDeaf = true;
  }

  slow(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Ends all connections after a part of what is sent next: somewhere inside a message. @param share 0 to 1 */
  tear(share: number): void {
    this.#tearAfterBytes = Math.floor(share * TEAR_AFTER_BYTES_MAX);
  }

  /** Sends what the newest connection sent so far once more, byte by byte the same, on a connection of its own. @returns bytes */
  deliverAgain(): number {
    const { chunks, bytes } = this.#record;
    if (bytes === 0 || bytes > RECORD_BYTES_MAX) return 0;
    const again = connect(this.#targetPort, '127.0.0.1');
    this.#sockets.add(again);
    again.on('error', () => undefined); // refused is one of the right answers
    again.on('close', () => this.#sockets.delete(again));
    again.resume();
    for (const chunk of chunks) again.write(chunk);
    return bytes;
  }

  /** New connections work again; silent ones stay dead, as after a NAT forgot them. */
  heal(): void {
    this.#refusing = false;
    this.#bytesPerSecond = Infinity;
    this.#tearAfterBytes = Infinity;
    if (!this.#silent && !this.#isDeaf) return;
    this.#silent = false;
    this.#isDeaf = false;
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
