/** What is in the lake, as the log entries themselves say when they come to be: no hub is asked. */
interface Version {
  /** Rows up to and including this version. */
  readonly rows: number;
  readonly positions: ReadonlyMap<string, number>;
}

const NONE: ReadonlyMap<string, number> = new Map();
const ENTRY = /^readings\/_delta_log\/(\d{20})\.json$/;

export class LakeTruth {
  #versions: Version[] = [];
  readonly #highest = new Map<string, number>();

  /** To be called when an object has come to be. */
  created(key: string, bytes: Uint8Array): void {
    const match = ENTRY.exec(key);
    if (match === null) return;
    const version = Number(match[1]);
    if (version !== this.#versions.length) throw new Error(`the log of readings has version ${version} after ${this.#versions.length - 1}`);
    const before = this.#versions.at(-1);
    const positions = new Map(before?.positions);
    let rows = before?.rows ?? 0;
    /** A lane that stands where it stood: its position is renewed, without rows. */
    let renewed: string | null = null;
    for (const line of Buffer.from(bytes).toString('utf8').trim().split('\n')) {
      const action = JSON.parse(line) as { txn?: { appId: string; version: number }; add?: { stats?: string; dataChange?: boolean } };
      if (action.txn !== undefined) {
        const from = positions.get(action.txn.appId) ?? 0;
        if (action.txn.version === from && from > 0) renewed = action.txn.appId;
        else if (action.txn.version <= from)
          throw new Error(`version ${version} moves ${action.txn.appId} from ${from} to ${action.txn.version}`);
        positions.set(action.txn.appId, action.txn.version);
        this.#highest.set(action.txn.appId, Math.max(this.#highest.get(action.txn.appId) ?? 0, action.txn.version));
      }
      // Compaction writes rows again that are there already.
      if (action.add !== undefined && action.add.dataChange !== false)
        rows += (JSON.parse(action.add.stats ?? '{}') as { numRecords?: number }).numRecords ?? 0;
    }
    if (renewed !== null && rows !== before?.rows) throw new Error(`version ${version} has rows and leaves ${renewed} where it was`);
    this.#versions.push({ rows, positions });
  }

  get version(): number {
    return this.#versions.length - 1;
  }

  rowsAt(version: number): number {
    return this.#versions[version]?.rows ?? 0;
  }

  committed(appId: string): number {
    return this.#versions.at(-1)?.positions.get(appId) ?? 0;
  }

  /** Of what is older than the newest version, only the rows are asked from here on. */
  forgetPositions(): void {
    this.#versions = this.#versions.map((version, index) => (index < this.version ? { rows: version.rows, positions: NONE } : version));
  }

  /** Also before the lake was restored from an older state. */
  highestEver(appId: string): number {
    return this.#highest.get(appId) ?? 0;
  }

  /** The lake was restored to this version. */
  restoredTo(version: number): void {
    this.#versions = this.#versions.slice(0, version + 1);
  }
}
