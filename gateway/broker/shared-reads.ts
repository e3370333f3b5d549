/**
 * Reads all TCP connections into one buffer, as the option `onread` of `net.connect` does and nothing of `net.Server` offers.
 *
 * Why: for a read of its own Node takes 64 KiB from malloc and cuts them to what came, makes an ArrayBuffer and a view of it,
 * and hands them through a Readable: at 2,000 devices with a message each in flight 7 of 23 µs of CPU in user mode per message on
 * the sockets' thread, and the collections of that (measured).
 *
 * Constraints: it sets what the option would have set. Those are private fields of net.Socket, found by giving the option to
 * a socket without a connection, and a method of its handle; where a Node has others, nothing is changed and the answer is false.
 * What the callback gets is valid until it returns. The end of the stream, errors, pausing and writing are as they were.
 */
import { Socket, type OnReadOpts, type SocketConstructorOpts } from 'node:net';

/** As large as a read of Node's own. */
const BUFFER_BYTES = 64 * 1024;

/** Called with each read. @returns false: read no more until the stream is read from again */
export type OnRead = (bytes: number, buffer: Buffer) => boolean;

interface Handle {
  useUserBuffer?(buffer: Uint8Array): void;
}

const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);

/** The fields that hold the buffer and the callback; null: this Node has none. */
const fields = findFields();

function findFields(): { readonly buffer: symbol; readonly callback: symbol } | null {
  const probe = Buffer.alloc(1);
  const callback = (): boolean => true;
  // Its types leave out the option here, its documentation does not.
  const options: SocketConstructorOpts & { readonly onread: OnReadOpts } = { onread: { buffer: probe, callback } };
  const socket = new Socket(options) as unknown as Record<symbol, unknown>;
  const holding = (value: unknown): symbol | undefined => Object.getOwnPropertySymbols(socket).find((symbol) => socket[symbol] === value);
  const found = { buffer: holding(probe), callback: holding(callback) };
  return found.buffer === undefined || found.callback === undefined ? null : { buffer: found.buffer, callback: found.callback };
}

/**
 * From now on reads of this socket go to `onRead`; before anything was read of it.
 *
 * @returns false: they go on as they did
 */
export function shareReads(socket: Socket, onRead: OnRead): boolean {
  const handle = (socket as unknown as { _handle?: Handle | null })._handle;
  if (fields === null || handle === null || handle === undefined || typeof handle.useUserBuffer !== 'function') return false;
  const own = socket as unknown as Record<symbol, unknown>;
  own[fields.buffer] = buffer;
  own[fields.callback] = onRead;
  handle.useUserBuffer(buffer);
  return true;
}
