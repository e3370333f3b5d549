/** The hub's clock as this page knows it: ages and ranges do not depend on how right the reader's own clock is. */
export class HubClock {
  #aheadMs: number | null = null;

  /** @param time RFC 3339, of an answer that has just come */
  set(time: string): void {
    this.#aheadMs = Date.parse(time) - Date.now();
  }

  nowMs(): number {
    return Date.now() + (this.#aheadMs ?? 0);
  }
}
