/**
 * Uplink messages as bytes: one MessagePack map per frame (docs/uplink.md), checked before anything else sees it.
 *
 * Constraints: the bytes come from a network. msgpackr by itself knows extensions (errors, regular expressions, records),
 * allocates arrays by their declared length and recurses as deep as it is told, so a walk over the bytes comes first: it
 * lets pass nil, booleans, integers, doubles, strings, binaries, arrays and maps whose parts are really there, shallow,
 * and nothing after them. A walk steps over a batch's body in one addition, and the body stays a view of the frame.
 *
 * It does not look into the body: that is shared/batch.
 */
import { Packr, Unpackr } from 'msgpackr';
import { SluiceError, errorMessage } from './errors.ts';
import { gatewayMessageSchema, hubMessageSchema, type BatchMessage, type GatewayMessage, type HubMessage } from './uplink.ts';

/**
 * A frame that a hub reads at all. A gateway must not seal a batch above UPLINK_BODY_BYTES_MAX, or its lane stands still;
 * 8 MiB is 8 M readings at the usual byte each, or eight dead letters of the largest MQTT payload taken (1 MiB).
 */
export const UPLINK_FRAME_BYTES_MAX = 8 * 1024 * 1024;
/** The frame around a body takes less than 128 bytes. */
export const UPLINK_BODY_BYTES_MAX = UPLINK_FRAME_BYTES_MAX - 128;
/** What a hub says: positions and refusals, the longest of them a refusal with its text. */
export const HUB_FRAME_BYTES_MAX = 64 * 1024;

/** hello → lanes → lane is three; one more for whoever adds a field. */
const DEPTH_MAX = 4;
/** Maps, arrays and scalars of a hello with 1,024 lanes and a heartbeat with 1,024 positions stay below half of it. */
const ITEMS_MAX = 32_768;

const packr = new Packr({ useRecords: false, variableMapSize: true, moreTypes: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** @returns one frame. A batch's body is copied once, into the frame. */
export function encodeGatewayMessage(message: GatewayMessage): Uint8Array {
  if (message.type === 'batch') return encodeBatchMessage(message);
  return packr.pack(message);
}

export function encodeHubMessage(message: HubMessage): Uint8Array {
  return packr.pack(message);
}

/** The map without body by msgpackr, body appended here: msgpackr grows its buffer to four times a large binary. */
function encodeBatchMessage({ body, type, seq, generation, readingCount, exceptionCount }: BatchMessage): Uint8Array {
  const head = packr.pack({ type, seq, generation, readingCount, exceptionCount });
  const frame = Buffer.allocUnsafe(head.length + 10 + body.length);
  frame.set(head, 0);
  frame[0] = 0x86; // fixmap of 6 instead of 5
  let offset = head.length;
  offset += frame.write('\xa4body', offset, 'latin1');
  frame[offset++] = 0xc6; // bin 32
  offset = frame.writeUInt32BE(body.length, offset);
  frame.set(body, offset);
  return frame;
}

/**
 * @returns the message; the body of a batch is a view of `frame`
 * @throws SluiceError ERR_UPLINK_MESSAGE for anything that is not a message of a gateway
 */
export function decodeGatewayMessage(frame: Uint8Array): GatewayMessage {
  const value = unpackMap(frame);
  const parsed = gatewayMessageSchema.safeParse(value);
  if (!parsed.success) throw invalid(parsed.error);
  return parsed.data;
}

/** @throws SluiceError ERR_UPLINK_MESSAGE for anything that is not a message of a hub */
export function decodeHubMessage(frame: Uint8Array): HubMessage {
  const parsed = hubMessageSchema.safeParse(unpackMap(frame));
  if (!parsed.success) throw invalid(parsed.error);
  return parsed.data;
}

function invalid(error: { readonly issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[] }): SluiceError {
  const issue = error.issues[0];
  const place = issue === undefined || issue.path.length === 0 ? '' : `${issue.path.map(String).join('.')}: `;
  return new SluiceError('ERR_UPLINK_MESSAGE', `not an uplink message: ${place}${issue?.message ?? 'unknown'}`, { cause: error });
}

function unpackMap(frame: Uint8Array): unknown {
  if (frame.length > UPLINK_FRAME_BYTES_MAX) {
    throw new SluiceError('ERR_UPLINK_MESSAGE', `frame of ${frame.length} bytes, allowed ${UPLINK_FRAME_BYTES_MAX}`);
  }
  walk(frame);
  try {
    return unpackr.unpack(frame) as unknown;
  } catch (cause) {
    throw new SluiceError('ERR_UPLINK_MESSAGE', `frame is not MessagePack: ${errorMessage(cause)}`, { cause });
  }
}

function malformed(what: string, offset: number): SluiceError {
  return new SluiceError('ERR_UPLINK_MESSAGE', `frame is not plain MessagePack: ${what} at byte ${offset}`);
}

/** Unsigned big-endian of 1, 2 or 4 bytes; bytes beyond the end count as missing, which the caller's bounds check sees. */
function readLength(bytes: Uint8Array, offset: number, width: number): number {
  let value = 0;
  for (let i = 0; i < width; i++) value = value * 256 + (bytes[offset + i] ?? 255);
  return value;
}

/** @throws SluiceError unless the bytes are exactly one map of plain values, with no more nesting and items than a message needs */
function walk(bytes: Uint8Array): void {
  const first = bytes[0] ?? 0xc0;
  if (!(first >= 0x80 && first <= 0x8f) && first !== 0xde && first !== 0xdf) throw malformed('no map', 0);
  // Items still to come at each level; a map counts keys and values.
  const open: number[] = [1];
  let offset = 0;
  let items = 0;
  while (open.length > 0) {
    const depth = open.length - 1;
    if (open[depth] === 0) {
      open.pop();
      continue;
    }
    open[depth] = open[depth] - 1;
    if (++items > ITEMS_MAX) throw malformed(`more than ${ITEMS_MAX} values`, offset);
    const token = bytes[offset];
    if (token === undefined) throw malformed('end', offset);
    const shape = shapeOf(token, bytes, offset);
    if (shape.size > bytes.length - offset) throw malformed('end', offset);
    offset += shape.size;
    if (shape.children > 0) {
      if (open.length > DEPTH_MAX) throw malformed(`more than ${DEPTH_MAX} levels`, offset);
      if (shape.children > bytes.length - offset) throw malformed('end', offset);
      open.push(shape.children);
    }
  }
  if (offset !== bytes.length) throw malformed('further bytes', offset);
}

/** Bytes of the value without its children, and how many values follow as children. */
function shapeOf(token: number, bytes: Uint8Array, offset: number): { size: number; children: number } {
  if (token < 0x80 || token >= 0xe0) return { size: 1, children: 0 };
  if (token < 0x90) return { size: 1, children: 2 * (token & 0x0f) };
  if (token < 0xa0) return { size: 1, children: token & 0x0f };
  if (token < 0xc0) return { size: 1 + (token & 0x1f), children: 0 };
  switch (token) {
    case 0xc0: // nil, false, true
    case 0xc2:
    case 0xc3:
      return { size: 1, children: 0 };
    case 0xc4: // bin and str of 8, 16, 32
    case 0xd9:
      return { size: 2 + readLength(bytes, offset + 1, 1), children: 0 };
    case 0xc5:
    case 0xda:
      return { size: 3 + readLength(bytes, offset + 1, 2), children: 0 };
    case 0xc6:
    case 0xdb:
      return { size: 5 + readLength(bytes, offset + 1, 4), children: 0 };
    case 0xcc: // integers and floats by width
    case 0xd0:
      return { size: 2, children: 0 };
    case 0xcd:
    case 0xd1:
      return { size: 3, children: 0 };
    case 0xce:
    case 0xd2:
    case 0xca:
      return { size: 5, children: 0 };
    case 0xcf:
    case 0xd3:
    case 0xcb:
      return { size: 9, children: 0 };
    case 0xdc:
      return { size: 3, children: readLength(bytes, offset + 1, 2) };
    case 0xdd:
      return { size: 5, children: readLength(bytes, offset + 1, 4) };
    case 0xde:
      return { size: 3, children: 2 * readLength(bytes, offset + 1, 2) };
    case 0xdf:
      return { size: 5, children: 2 * readLength(bytes, offset + 1, 4) };
    default:
      throw malformed(`type byte 0x${token.toString(16)}`, offset);
  }
}
