/**
 * Compression, synchronous and bounded; the home of zstd.
 *
 * Brotli is in every Node. zstd comes from node:zlib where that has it (Node 22.15), else from the native binding of
 * `@cloudpss/zstd`, else it is not available (32-bit ARM): `availableCompressions` says so, and a hub tells its gateways.
 * Two things about that package: its one-shot functions share one native context among all threads of the process, so
 * two workers that compress at once corrupt each other; its streams own their contexts, and are synchronous underneath,
 * so those are used. And it decompresses whatever the input asks for, so frames are checked and fed block by block.
 */
import zlib from 'node:zlib';
import { SluiceError } from '../errors.ts';
import type { Compression } from './batch.ts';
import { malformed } from './bytes.ts';

/** On packed columns quality 5 saves 4 % for twice the time (reference fleet, measured: 1.13 B instead of 1.18 per reading). */
const BROTLI_QUALITY = 1;
const ZSTD_LEVEL = 1;
/** RFC 8878, 3.1.1.1.2: every decoder should support windows of 8 MiB; memory for more is not given to a stranger. */
const ZSTD_WINDOW_BYTES_MAX = 8 * 1024 * 1024;

interface ZstdStream {
  data(chunk: Buffer, onOutput: (output: Buffer) => void): void;
  end(onOutput: (output: Buffer) => void): void;
}

interface ZstdBinding {
  readonly Compressor: new (level: number) => ZstdStream;
  readonly Decompressor: new () => ZstdStream;
}

/** What Node 22.15 adds; the types of Node 20 do not know it. */
interface ZlibWithZstd {
  readonly zstdCompressSync?: (bytes: Uint8Array, options: { params: Record<number, number> }) => Buffer;
  readonly zstdDecompressSync?: (bytes: Uint8Array, options: { maxOutputLength: number }) => Buffer;
  readonly constants: { readonly ZSTD_c_compressionLevel?: number };
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- every member is looked for before it is used
const builtin = zlib as unknown as ZlibWithZstd;
const binding = builtin.zstdCompressSync === undefined ? await loadBinding() : null;

async function loadBinding(): Promise<ZstdBinding | null> {
  try {
    const module = (await import('@cloudpss/zstd/napi')) as { _NapiBindings: ZstdBinding };
    // oxlint-disable-next-line no-underscore-dangle -- the package's only way to its synchronous streams
    return module._NapiBindings;
  } catch {
    return null; // optional: without it, or without a binary for this machine, batches are compressed with brotli
  }
}

/** What this machine can both write and read, best first. */
export function availableCompressions(): readonly Compression[] {
  return builtin.zstdCompressSync === undefined && binding === null ? ['br', 'none'] : ['zstd', 'br', 'none'];
}

/** @throws SluiceError ERR_BATCH_COMPRESSION for zstd where it is not available. */
export function compress(compression: Compression, bytes: Uint8Array): Uint8Array {
  if (compression === 'none') return bytes;
  if (compression === 'zstd') return zstdCompressSync(bytes, ZSTD_LEVEL);
  const params = { [zlib.constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY, [zlib.constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  return zlib.brotliCompressSync(bytes, { params });
}

/**
 * The `rawBytes` bytes that `bytes` expands to; memory is bounded by that number whatever the input says.
 *
 * @throws SluiceError ERR_BATCH_MALFORMED for damaged input or another length, ERR_BATCH_COMPRESSION.
 */
export function decompress(compression: Compression, bytes: Uint8Array, rawBytes: number): Uint8Array {
  const raw = compression === 'none' ? bytes : compression === 'br' ? brotliDecompress(bytes, rawBytes) : zstdDecompress(bytes, rawBytes);
  if (raw.length !== rawBytes) throw malformed(`body has ${raw.length} bytes, the envelope says ${rawBytes}`);
  return raw;
}

/** One zstd frame; also what Parquet pages are made of. Level 1 to 22. */
export function zstdCompressSync(bytes: Uint8Array, level: number): Uint8Array {
  if (builtin.zstdCompressSync !== undefined) {
    return builtin.zstdCompressSync(bytes, { params: { [builtin.constants.ZSTD_c_compressionLevel ?? 100]: level } });
  }
  const stream = compressorOf(level);
  const parts: Buffer[] = [];
  stream.data(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), (part) => parts.push(part));
  stream.end((part) => parts.push(part));
  return parts.length === 1 ? parts[0] : Buffer.concat(parts);
}

const compressors = new Map<number, ZstdStream>();

/** A stream begins a new frame after `end`; making one costs more than compressing a small batch (23 µs, measured). */
function compressorOf(level: number): ZstdStream {
  const known = compressors.get(level);
  if (known !== undefined) return known;
  const stream = new (nativeZstd().Compressor)(level);
  compressors.set(level, stream);
  return stream;
}

function nativeZstd(): ZstdBinding {
  if (binding === null)
    throw new SluiceError('ERR_BATCH_COMPRESSION', 'zstd is in neither this Node nor an optional package that was installed');
  return binding;
}

function brotliDecompress(bytes: Uint8Array, rawBytes: number): Uint8Array {
  try {
    // node:zlib takes no maximum of 0, and a small chunk for a small batch saves its allocation of 16 KiB.
    const chunkSize = Math.min(Math.max(rawBytes, 64), 1024 * 1024);
    return zlib.brotliDecompressSync(bytes, { maxOutputLength: Math.max(rawBytes, 1), chunkSize });
  } catch (cause) {
    throw malformed('the brotli stream is damaged or longer than declared', cause);
  }
}

/** A stream of a larger frame may hold a window of 8 MiB. */
const DECOMPRESSOR_KEPT_BYTES_MAX = 1024 * 1024;
/** A page of a Parquet file takes 17 µs with a stream that is there, 50 µs with one that is made for it (measured). */
let decompressor: ZstdStream | null = null;

function zstdDecompress(bytes: Uint8Array, rawBytes: number): Uint8Array {
  const blockEnds = walkZstdFrame(bytes);
  try {
    if (builtin.zstdDecompressSync !== undefined) return builtin.zstdDecompressSync(bytes, { maxOutputLength: Math.max(rawBytes, 1) });
    const stream = decompressor ?? new (nativeZstd().Decompressor)();
    // Not kept until its frame has ended well: what is left of a damaged one would be taken for the next.
    decompressor = null;
    const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const out = new Uint8Array(rawBytes);
    let length = 0;
    let from = 0;
    for (const end of blockEnds) {
      stream.data(input.subarray(from, end), (part) => {
        if (length + part.length <= rawBytes) out.set(part, length);
        length += part.length;
      });
      // A block holds at most 128 KiB, so this is the most that a lying frame costs.
      if (length > rawBytes) throw malformed(`body is longer than the ${rawBytes} bytes of the envelope`);
      from = end;
    }
    if (length === rawBytes && rawBytes <= DECOMPRESSOR_KEPT_BYTES_MAX) decompressor = stream;
    return length === rawBytes ? out : out.subarray(0, length);
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw malformed('the zstd frame is damaged or longer than declared', cause);
  }
}

/**
 * Where the blocks of a frame end (RFC 8878, 3.1.1), the checksum belonging to the last one.
 *
 * Refuses what a batch may not contain: another frame behind the first, a dictionary, a window above 8 MiB.
 */
function walkZstdFrame(bytes: Uint8Array): number[] {
  const damaged = (what: string): SluiceError => malformed(`zstd frame: ${what}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 9 || view.getUint32(0, true) !== 0xfd2fb528) throw damaged('no magic number');
  const descriptor = bytes[4];
  const singleSegment = (descriptor & 0x20) !== 0;
  if ((descriptor & 0x03) !== 0 || (descriptor & 0x08) !== 0) throw damaged(`descriptor ${descriptor}`);
  const sizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6];
  let offset = 5 + (singleSegment ? 0 : 1) + sizeBytes;
  if (!singleSegment) {
    const base = 2 ** (10 + (bytes[5] >>> 3));
    if (base + (base / 8) * (bytes[5] & 7) > ZSTD_WINDOW_BYTES_MAX) throw damaged('window above 8 MiB');
  }
  const ends: number[] = [];
  for (let last = false; !last;) {
    if (offset + 3 > bytes.length) throw damaged('ends inside a block header');
    const header = bytes[offset] | (bytes[offset + 1] << 8) | (bytes[offset + 2] << 16);
    last = (header & 1) === 1;
    offset += 3 + (((header >>> 1) & 3) === 1 ? 1 : header >>> 3);
    ends.push(last && (descriptor & 0x04) !== 0 ? offset + 4 : offset);
  }
  if (ends[ends.length - 1] !== bytes.length) throw damaged('does not end where the body ends');
  return ends;
}
