/**
 * Follows the frames of an MQTT byte stream and refuses what is too large before anybody buffers it: the parser of
 * mqtt-packet collects a whole packet (up to 256 MB by its own length) before it looks at it.
 */
import { SluiceError } from '../../shared/errors.ts';

/** A CONNECT has five strings of at most 64 KiB; who has not yet said who he is gets no more than real ones need. */
const CONNECT_BYTES_MAX = 256 * 1024;
export const LENGTH_BYTES_MAX = 4; // [MQTT-2.2.3]

export class PacketGuard {
  readonly #packetBytesMax: number;
  #state: 'header' | 'length' | 'body' = 'header';
  #lengthBytes = 0;
  #length = 0;
  #first = true;

  constructor(packetBytesMax: number) {
    this.#packetBytesMax = packetBytesMax;
  }

  /** Bytes of the packet at hand that have not come; 0 between packets; null: its length is not known yet. */
  get bodyBytesOpen(): number | null {
    return this.#state === 'header' ? 0 : this.#state === 'body' ? this.#length : null;
  }

  /** null, or why the connection must end. */
  scan(chunk: Uint8Array): SluiceError | null {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === 'body') {
        const step = Math.min(this.#length, chunk.length - at);
        at += step;
        this.#length -= step;
        if (this.#length === 0) this.#state = 'header';
      } else if (this.#state === 'header') {
        at++;
        this.#state = 'length';
        this.#lengthBytes = 0;
        this.#length = 0;
      } else {
        const fault = this.#lengthByte(chunk[at++]);
        if (fault !== null) return fault;
      }
    }
    return null;
  }

  #lengthByte(byte: number): SluiceError | null {
    this.#length += (byte & 0x7f) * 128 ** this.#lengthBytes++;
    const allowed = this.#first ? Math.min(CONNECT_BYTES_MAX, this.#packetBytesMax) : this.#packetBytesMax;
    if (this.#length > allowed)
      return new SluiceError('ERR_BROKER_PACKET_TOO_LARGE', `an MQTT packet of ${this.#length} bytes; at most ${allowed} are allowed here`);
    if ((byte & 0x80) === 0) {
      this.#state = this.#length === 0 ? 'header' : 'body';
      this.#first = false;
    } else if (this.#lengthBytes === LENGTH_BYTES_MAX)
      return new SluiceError('ERR_BROKER_MALFORMED', 'the remaining length of an MQTT packet has more than four bytes');
    return null;
  }
}
