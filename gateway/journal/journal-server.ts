/**
 * The journal's end of the messages: takes requests in their order, tries a group again while the disk refuses it.
 *
 * While one group is tried again (at most RETRY_MS_MAX) all other requests wait, because a reading must not overtake what
 * arrived before it, and nothing else would succeed on that disk either. It runs in the worker, or in the same thread
 * where a test wants that.
 */
import type { Clock } from '../../shared/clock.ts';
import type { SluiceError } from '../../shared/errors.ts';
import { isSluiceError } from '../../shared/errors.ts';
import { groupBuffers, type Group } from './group.ts';
import { Journal, newProgress, type JournalOptions } from './journal.ts';
import { toPlain, type Call, type CallResult, type JournalReply, type JournalRequest, type Stamp } from './journal-messages.ts';
import type { JournalState } from './journal-state.ts';

/** After this the callers are told; devices repeat what was not acknowledged. */
const RETRY_MS_MAX = 5_000;
const RETRY_DELAY_MS_MIN = 50;
const RETRY_DELAY_MS_MAX = 1_000;

export type Post = (reply: JournalReply, transfer: readonly ArrayBuffer[]) => void;

export class JournalServer {
  readonly #journal: Journal;
  readonly #post: Post;
  readonly #clock: Clock;
  readonly #setStamp: (stamp: Stamp) => void;
  readonly #queue: JournalRequest[] = [];
  #running = false;
  #continues = false;
  #closed = false;

  /** @throws what `Journal` throws */
  constructor(options: JournalOptions, setStamp: (stamp: Stamp) => void, post: Post) {
    this.#journal = new Journal(options);
    this.#clock = options.clock;
    this.#setStamp = setStamp;
    this.#post = post;
    const keys = this.#journal.keysSnapshot();
    post({ type: 'ready', keys, sessions: this.#journal.sessions(), state: this.#journal.state() }, [keys.buffer as ArrayBuffer]);
  }

  request(request: JournalRequest): void {
    this.#queue.push(request);
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let request = this.#queue.shift(); request !== undefined; request = this.#queue.shift()) {
      if (request.stamp !== null) this.#setStamp(request.stamp);
      if (request.type === 'commit') await this.#commit(request.group);
      else if (request.type === 'call') this.#call(request.id, request.call);
      else if (request.type === 'tick' || request.type === 'continue') this.#tick();
      else this.#close();
    }
    this.#running = false;
  }

  async #commit(group: Group): Promise<void> {
    const progress = newProgress();
    const deadlineUs = this.#clock.monotonicUs() + RETRY_MS_MAX * 1000;
    let error: SluiceError | null = null;
    for (let delayMs = RETRY_DELAY_MS_MIN; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MS_MAX)) {
      error = guarded(() => this.#journal.commit(group, progress));
      // A full buffer stays full until the uplink frees something, and that waits behind this group.
      if (error === null || error.code === 'ERR_JOURNAL_FULL' || this.#clock.monotonicUs() + delayMs * 1000 > deadlineUs) break;
      await new Promise<void>((resolve) => void this.#clock.after(delayMs, resolve));
    }
    this.#post(
      {
        type: 'committed',
        error: error === null ? null : { from: progress.done, error: toPlain(error) },
        failed: progress.failed.map(({ message, error: cause }) => ({ message, error: toPlain(cause) })),
        arrays: group.arrays,
        state: this.#state(),
      },
      groupBuffers(group.arrays),
    );
    if (this.#journal.sealDue) this.#tick();
  }

  #call(id: number, call: Call): void {
    let result: CallResult = null;
    const error = guarded(() => {
      result = this.#perform(call);
    });
    this.#post({ type: 'answer', id, result, error: error === null ? null : toPlain(error), state: this.#state() }, []);
  }

  #perform(call: Call): CallResult {
    if (call.method === 'lanes') return this.#journal.lanes();
    if (call.method === 'offer') return this.#journal.offer(call.epoch, call.lane, call.afterSeq, call.bytesMax);
    if (call.method === 'stats') return this.#journal.stats();
    if (call.method === 'free') this.#journal.free(call.epoch, call.lane, call.seq);
    else if (call.method === 'startNewEpoch') this.#journal.startNewEpoch();
    else if (call.method === 'pinLake') this.#journal.pinLake(call.lakeId);
    else this.#journal.tick();
    return null;
  }

  #tick(): void {
    let more = false;
    const error = guarded(() => {
      more = this.#journal.tick(1);
    });
    // One batch at a time, and groups that arrived meanwhile go first: their senders wait for an ack.
    if (more && !this.#continues) {
      this.#continues = true;
      setImmediate(() => {
        this.#continues = false;
        if (!this.#closed) this.request({ type: 'continue', stamp: null });
      });
    }
    this.#post({ type: 'state', state: this.#state(), error: error === null ? null : toPlain(error) }, []);
  }

  /** null while the disk gives no answer: the last state stands. */
  #state(): JournalState | null {
    let state: JournalState | null = null;
    guarded(() => {
      state = this.#journal.state();
    });
    return state;
  }

  #close(): void {
    this.#closed = true;
    this.#journal.close();
    this.#post({ type: 'closed' }, []);
  }
}

/** Operating errors are answers; anything else is a defect and stops the process. */
function guarded(run: () => void): SluiceError | null {
  try {
    run();
    return null;
  } catch (error) {
    if (isSluiceError(error)) return error;
    throw error;
  }
}
