/**
 * A damaged WAL is mended before SQLite sees it.
 *
 * SQLite takes a WAL up to the first frame whose checksum is wrong and forgets what stands behind, without a word: one bad byte
 * takes the journal back by megabytes, loses what was acknowledged since and sends again what was delivered since. But the
 * checksum of a frame (file format, section 4: "The Write-Ahead Log") continues that of the frame before, which stands there: so
 * each frame can be proved by itself, and only the bad ones are missing. A journal writes its pages again and again. Where
 * every bad frame's page has a later frame, leaving the bad ones out changes nothing: nothing is lost. Otherwise the state
 * lacks one version of one page, and that is a damaged database (salvage.ts).
 *
 * When is it damage and not the end that a power cut leaves? A group is written only after the one before was synced, so two
 * commits of one WAL generation behind the first bad frame mean that something synced is unreadable. One such commit may be
 * the interrupted one and says nothing: there the WAL is left to SQLite.
 *
 * Layout: `-wal.new` while it is written; `-wal.damaged`, the original, where not all could be mended.
 * A crash leaves the original under its name or the mended one; `-wal.damaged` beside it says at the next opening that the
 * database lacks something, until quarantine takes both.
 *
 * Cost: one pass over the file, about 10 ms for 4 MiB, and the same again to mend.
 */
import { copyFileSync, readFileSync, renameSync, statSync } from 'node:fs';
import { syncPath, writeDurably } from '../durable-file.ts';

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const MAGIC = 0x377f0682;
const FORMAT = 3_007_000;
/** A WAL beyond this was made by something else than the journal; SQLite reads it, this check does not. */
const CHECK_BYTES_MAX = 256 * 1024 * 1024;
/** Of a WAL without a header: so many frames say which generation it was. */
const SAMPLE_FRAMES = 5;

type Sums = readonly [number, number];

interface Frame {
  readonly at: number;
  page: number;
  /** Pages of the database after this commit; 0: no commit. */
  readonly commit: number;
  readonly isOfGeneration: boolean;
  /** SQLite would take it. */
  intact: boolean;
  /** Its content is what was written. */
  proved: boolean;
}

/** What a WAL is found to be. */
export interface WalReport {
  /** The WAL without its bad frames. */
  readonly mended: Buffer;
  readonly badFrames: number;
  /** Nothing is missing: each bad frame's page comes again later. */
  readonly isWhole: boolean;
}

/**
 * @param pageBytes of the database
 * @returns null: it is sound, or ends in an interrupted commit, or cannot be a WAL of these pages
 */
export function examineWal(bytes: Buffer, pageBytes: number): WalReport | null {
  const frameBytes = FRAME_HEADER_BYTES + pageBytes;
  const count = Math.floor((bytes.length - HEADER_BYTES) / frameBytes);
  if (count < 2) return null;
  const wal = new WalReader(bytes, pageBytes, count);
  const frames = wal.frames();
  const firstBad = frames.findIndex(({ intact }) => !intact);
  if (firstBad < 0 && wal.headerHolds) return null;
  const commitsBehind = frames.filter(({ commit, isOfGeneration }, index) => index >= firstBad && commit > 0 && isOfGeneration).length;
  if (wal.headerHolds && commitsBehind < 2) return null;
  const end = frames.findLastIndex(({ proved, commit }) => proved && commit > 0);
  if (end < 0) return null;
  const lastOf = new Map<number, number>();
  for (let index = 0; index <= end; index++) if (frames[index].proved) lastOf.set(frames[index].page, index);
  const bad = frames.filter(({ proved }, index) => !proved && index <= end);
  // What stands beside the page number in a frame is whole, so that number is believed.
  const isReplaced = (frame: Frame): boolean => frame.isOfGeneration && (lastOf.get(frame.page) ?? -1) > frames.indexOf(frame);
  const lostBehind = frames.some(({ commit }, index) => index > end && commit > 0);
  return { mended: wal.without(frames, end), badFrames: bad.length, isWhole: !lostBehind && bad.every(isReplaced) };
}

/**
 * Examines and mends the WAL of a database that nobody has open.
 *
 * @returns 'sound'; 'mended': damaged, and nothing is missing; 'damaged': the database lacks something
 */
export function repairWal(walFile: string, pageBytes: number): 'sound' | 'mended' | 'damaged' {
  if (statSync(damagedName(walFile), { throwIfNoEntry: false }) !== undefined) return 'damaged'; // of a start that was interrupted
  const size = statSync(walFile, { throwIfNoEntry: false })?.size ?? 0;
  if (size <= HEADER_BYTES + FRAME_HEADER_BYTES || size > CHECK_BYTES_MAX) return 'sound';
  const report = examineWal(readFileSync(walFile), pageBytes);
  if (report === null) return 'sound';
  if (!report.isWhole) {
    copyFileSync(walFile, `${damagedName(walFile)}.new`);
    syncPath(`${damagedName(walFile)}.new`);
    renameSync(`${damagedName(walFile)}.new`, damagedName(walFile));
  }
  writeDurably(walFile, report.mended, `${walFile}.new`);
  return report.isWhole ? 'mended' : 'damaged';
}

function damagedName(walFile: string): string {
  return `${walFile}.damaged`;
}

class WalReader {
  readonly #bytes: Buffer;
  readonly #pageBytes: number;
  readonly #frameBytes: number;
  readonly #count: number;
  readonly #littleEndian: boolean;
  /** Of the newest generation. */
  readonly #salts: readonly [number, number];
  readonly headerHolds: boolean;

  constructor(bytes: Buffer, pageBytes: number, count: number) {
    this.#bytes = bytes;
    this.#pageBytes = pageBytes;
    this.#frameBytes = FRAME_HEADER_BYTES + pageBytes;
    this.#count = count;
    const magic = bytes.readUInt32BE(0);
    const isMagic = (magic & ~1) === MAGIC;
    this.#littleEndian = !isMagic || (magic & 1) === 0;
    const [first, second] = this.#sum([0, 0], 0, 24);
    this.headerHolds =
      isMagic && bytes.readUInt32BE(8) === pageBytes && first === bytes.readUInt32BE(24) && second === bytes.readUInt32BE(28);
    this.#salts = this.headerHolds ? [bytes.readUInt32BE(16), bytes.readUInt32BE(20)] : this.#usualSalts();
  }

  /** The frames of the newest generation, each proved or not. */
  frames(): Frame[] {
    const bytes = this.#bytes;
    const frames: Frame[] = [];
    for (let index = 0; index < this.#count; index++) {
      const at = HEADER_BYTES + index * this.#frameBytes;
      const isOfGeneration = bytes.readUInt32BE(at + 8) === this.#salts[0] && bytes.readUInt32BE(at + 12) === this.#salts[1];
      frames.push({ at, page: bytes.readUInt32BE(at), commit: bytes.readUInt32BE(at + 4), isOfGeneration, intact: false, proved: false });
    }
    frames.length = frames.findLastIndex(({ isOfGeneration }) => isOfGeneration) + 1;
    const pagesMax = frames.reduce((most, { commit, isOfGeneration }) => (isOfGeneration ? Math.max(most, commit) : most), 0);
    /** What the checksum before the frame can have been: as it stands there, and as its content gives it. */
    let seeds: readonly Sums[] = [[bytes.readUInt32BE(24), bytes.readUInt32BE(28)]];
    for (const [index, frame] of frames.entries()) {
      const stored: Sums = [bytes.readUInt32BE(frame.at + 16), bytes.readUInt32BE(frame.at + 20)];
      const sums = seeds.map((seed) => this.#frameSum(seed, frame.at));
      const found = sums.findIndex(([a, b]) => a === stored[0] && b === stored[1]);
      frame.intact = found === 0 && frame.isOfGeneration;
      frame.proved = found >= 0 || this.#findPage(frame, seeds, stored, pagesMax);
      // Proved from what the content of the frame before gives: only the checksum of that one was hurt.
      if (found > 0 && index > 0) frames[index - 1].proved = true;
      seeds = frame.proved ? [stored] : [stored, ...sums];
    }
    return frames;
  }

  /** The proved frames up to `end`, under one chain of checksums. */
  without(frames: readonly Frame[], end: number): Buffer {
    const kept = frames.slice(0, end + 1).filter(({ proved }) => proved);
    const out = Buffer.alloc(HEADER_BYTES + kept.length * this.#frameBytes);
    out.writeUInt32BE(this.#littleEndian ? MAGIC : MAGIC + 1, 0);
    out.writeUInt32BE(FORMAT, 4);
    out.writeUInt32BE(this.#pageBytes, 8);
    out.writeUInt32BE(this.#bytes.readUInt32BE(12), 12);
    out.writeUInt32BE(this.#salts[0], 16);
    out.writeUInt32BE(this.#salts[1], 20);
    let sums = this.#sum([0, 0], 0, 24, out);
    out.writeUInt32BE(sums[0], 24);
    out.writeUInt32BE(sums[1], 28);
    let to = HEADER_BYTES;
    for (const { at, page } of kept) {
      this.#bytes.copy(out, to, at, at + this.#frameBytes);
      out.writeUInt32BE(page, to);
      out.writeUInt32BE(this.#salts[0], to + 8);
      out.writeUInt32BE(this.#salts[1], to + 12);
      sums = this.#frameSum(sums, to, out);
      out.writeUInt32BE(sums[0], to + 16);
      out.writeUInt32BE(sums[1], to + 20);
      to += this.#frameBytes;
    }
    return out;
  }

  /**
   * Was only the page number hurt? The checksum is linear (mod 2^32) in each word, so that the number that it wants is found
   * without running over the page for each that it may be.
   */
  #findPage(frame: Frame, seeds: readonly Sums[], stored: Sums, pagesMax: number): boolean {
    const probe = Buffer.from(this.#bytes.subarray(frame.at, frame.at + this.#frameBytes));
    const view = new DataView(probe.buffer, probe.byteOffset, probe.byteLength);
    for (const seed of seeds) {
      view.setUint32(0, 0, this.#littleEndian);
      const [zeroFirst, zeroSecond] = this.#frameSum(seed, 0, probe);
      view.setUint32(0, 1, this.#littleEndian);
      const [oneFirst, oneSecond] = this.#frameSum(seed, 0, probe);
      for (let page = 1; page <= pagesMax; page++) {
        view.setUint32(0, page); // as it stands in the file
        const word = view.getUint32(0, this.#littleEndian); // as the checksum reads it
        if ((zeroFirst + Math.imul(word, oneFirst - zeroFirst)) >>> 0 !== stored[0]) continue;
        if ((zeroSecond + Math.imul(word, oneSecond - zeroSecond)) >>> 0 !== stored[1]) continue;
        frame.page = page;
        return true;
      }
    }
    return false;
  }

  #usualSalts(): readonly [number, number] {
    const seen = new Map<string, { salts: readonly [number, number]; times: number }>();
    for (let index = 0; index < Math.min(SAMPLE_FRAMES, this.#count); index++) {
      const at = HEADER_BYTES + index * this.#frameBytes;
      const salts = [this.#bytes.readUInt32BE(at + 8), this.#bytes.readUInt32BE(at + 12)] as const;
      const entry = seen.get(salts.join('/')) ?? { salts, times: 0 };
      entry.times++;
      seen.set(salts.join('/'), entry);
    }
    return [...seen.values()].reduce((best, entry) => (entry.times > best.times ? entry : best)).salts;
  }

  #frameSum(seed: Sums, at: number, bytes: Buffer = this.#bytes): Sums {
    return this.#sum(this.#sum(seed, at, 8, bytes), at + FRAME_HEADER_BYTES, this.#pageBytes, bytes);
  }

  /** Fibonacci-weighted sums of 32-bit words in the byte order that the magic names. */
  #sum(seed: Sums, offset: number, length: number, bytes: Buffer = this.#bytes): Sums {
    let [first, second] = seed;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = offset; at < offset + length; at += 8) {
      first = (first + view.getUint32(at, this.#littleEndian) + second) >>> 0;
      second = (second + view.getUint32(at + 4, this.#littleEndian) + first) >>> 0;
    }
    return [first, second];
  }
}
