/**
 * Order and bounds of texts as Parquet wants them: by unsigned bytes of UTF-8.
 *
 * JavaScript's `<` compares UTF-16 units, which puts U+E000..U+FFFF behind the surrogates of higher code points.
 */

/** Longer bounds are left out: the whole name of a device fits (names are at most 256 bytes), a payload does not. */
export const TEXT_BOUND_BYTES_MAX = 256;

/** Negative, 0 or positive as `a` stands before, at or behind `b` in UTF-8. Both well-formed. */
export function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    let unitA = a.charCodeAt(i);
    let unitB = b.charCodeAt(i);
    if (unitA === unitB) continue;
    if (unitA >= 0xd800 && unitB >= 0xd800) {
      unitA = unitA >= 0xe000 ? unitA - 0x800 : unitA + 0x2000;
      unitB = unitB >= 0xe000 ? unitB - 0x800 : unitB + 0x2000;
    }
    return unitA - unitB;
  }
  return a.length - b.length;
}

/** With the `u` flag a surrogate class matches lone surrogates only; those are written as U+FFFD. */
const LONE_SURROGATE = /[\ud800-\udfff]/u;

export class TextBounds {
  #min: string | null = null;
  #max: string | null = null;
  #isUnknown = false;

  add(text: string): void {
    if (this.#min === null || this.#max === null) {
      this.#min = this.#max = text;
    } else if (compareUtf8(text, this.#min) < 0) {
      this.#min = text;
    } else if (compareUtf8(text, this.#max) > 0) {
      this.#max = text;
    }
    if (!this.#isUnknown && LONE_SURROGATE.test(text)) this.#isUnknown = true;
  }

  /** Both bounds or, where one is unknown or too long, none. */
  bounds(): { min: string; max: string } | null {
    if (this.#isUnknown || this.#min === null || this.#max === null) return null;
    if (Buffer.byteLength(this.#min) > TEXT_BOUND_BYTES_MAX || Buffer.byteLength(this.#max) > TEXT_BOUND_BYTES_MAX) return null;
    return { min: this.#min, max: this.#max };
  }
}
