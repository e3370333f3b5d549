/**
 * The redelivery keys in SQLite: one blob per commit, folded into one snapshot (id 0) when the log has become longer than it.
 */
import { ByteWriter } from './bytes.ts';
import type { JournalStore } from './journal-store.ts';
import { RedeliveryKeys } from './redelivery.ts';

/** A shorter log is not worth the folding: 50 ms for 200,000 keys. */
const KEY_LOG_BYTES_MAX = 2 * 1024 * 1024;
/** In a small buffer less, or keys would leave no room for readings. */
const KEY_LOG_SHARE_MAX = 1 / 16;

/** All keys that are stored. */
export function readKeys(store: JournalStore): RedeliveryKeys {
  const keys = new RedeliveryKeys();
  store.read(() => {
    for (let row = store.sql.keysAfter.get(-1); row !== undefined; row = store.sql.keysAfter.get(row.id)) {
      try {
        keys.replay(row.body);
      } catch {
        // A damaged blob of keys makes duplicates possible where devices repeat just now, and harms nothing else.
      }
    }
  });
  return keys;
}

/** Folds the log if it is long. A crash leaves the log or the snapshot. */
export function foldKeys(store: JournalStore, nowUs: number): void {
  const { keyLogBytes, keySnapshotBytes } = store.totals;
  const bytesMax = Math.min(KEY_LOG_BYTES_MAX, store.bytesMax * KEY_LOG_SHARE_MAX);
  if (keyLogBytes <= Math.max(bytesMax, keySnapshotBytes)) return;
  const snapshot = readKeys(store).snapshot(new ByteWriter(), nowUs);
  store.write(() => {
    store.sql.insertKeys.run(0, snapshot);
    store.sql.deleteKeysBetween.run(0, store.ids.keys);
  });
  store.totals.keySnapshotBytes = snapshot.length;
  store.totals.keyLogBytes = 0;
}
