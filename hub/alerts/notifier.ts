/**
 * Tells receivers what fires and what has ended: Alertmanagers, and webhooks.
 *
 * Purpose: at least once, across crashes and several hubs over one lake. What a receiver has yet to be told follows from the
 * book of alerts and the place that it has been told up to (delivery-log.ts): there is no queue. A receiver that was away is
 * told how each alert stands now, in the order of the changes; one that fired and ended meanwhile is told as ended.
 *
 * Who sends: the hub that wrote the newest record of the receiver's delivery log. Another one claims it when something has
 * been due for TAKE_OVER_US and a request's deadline, and the record has not moved for as long, by its own monotonic clock: the holder is gone, or
 * cannot reach the receiver. Each request is noted before the next; who loses that race stops. So two hubs send the same once
 * in a while, and nothing is left unsent.
 *
 * Crash: the request under way is sent again, by the same hub's next start or another hub, after that time. A hub that is
 * stopped lets go, and the next goes on at once.
 *
 * Bounds: one request at a time for each receiver, of so many alerts, with a deadline; failures are tried again after 1 s to
 * 1 min (or as Retry-After asks, to 5 min), for ever. What a receiver refuses for its content (400, 413, 422) is sent alert by
 * alert; one that it refuses alone is counted, logged, and told again only when it changes or repeats. Resolved alerts that
 * the book has forgotten meanwhile are not told.
 *
 * It takes no part in evaluation, and nothing waits for it. It sends from the thread that has the book, a request at a time:
 * making one takes 1 to 3 ms. A burst of 10,000 alerts takes some 10 ms to be put in order.
 */
import { readFile } from 'node:fs/promises';
import type { Clock } from '../../shared/clock.ts';
import { errorMessage, SluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import type { Alert } from './alert.ts';
import type { AlertBook } from './alert-book.ts';
import type { AlertStore } from './alert-log.ts';
import { DeliveryLog } from './delivery-log.ts';
import { bodyOf, dueOf, isBehind, REPEAT_CHECK_MS_MAX, requestsOf, type Delivered, type Due, type Place } from './notification.ts';
import type { PostAnswer } from './post-json.ts';
import type { Receiver } from './receiver.ts';

const TURN_MS = 1_000;
/** And as long as a request of the holder may take. */
const TAKE_OVER_US = 5_000_000;
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 60_000;
const RETRY_AFTER_MS_MAX = 300_000;
/** The log of alerts was begun anew, if the receiver is ahead of it for so long. */
const AHEAD_US = 60_000_000;
/** Of the content; every other status may be otherwise tomorrow. */
const REFUSALS: ReadonlySet<number> = new Set([400, 413, 422]);

const START: Place = { version: 0, rule: '', id: '' };

export interface NotifierParts {
  readonly alerts: { readonly book: AlertBook };
  readonly store: AlertStore;
  readonly receivers: readonly Receiver[];
  /** Where people reach the hub's page, for links. */
  readonly externalUrl: string | null;
  /** Random identity of this start of the hub. */
  readonly hubInstance: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What headerEnv names. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** 0 ≤ x < 1 */
  readonly random: () => number;
  readonly post: (url: string, body: string, headers: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<PostAnswer>;
}

export interface DeliveryFigures {
  readonly receiver: string;
  /** Alerts, each as often as it was sent. */
  readonly delivered: number;
  readonly refused: number;
  /** Requests. */
  readonly failed: number;
  /** Changes of alerts that the receiver has yet to be told. */
  readonly waiting: number;
  /** Hub wall clock of the oldest of them. */
  readonly waitingSinceUs: number | null;
  readonly lastError: string | null;
}

export class Notifier {
  readonly #deliveries: readonly Delivery[];

  constructor(parts: NotifierParts) {
    this.#deliveries = parts.receivers.map((receiver) => new Delivery(receiver, parts));
  }

  start(): void {
    for (const delivery of this.#deliveries) delivery.start();
  }

  /** One turn of each receiver, now; never throws. */
  async turn(): Promise<void> {
    await Promise.all(this.#deliveries.map((delivery) => delivery.turn()));
  }

  /** Breaks off what is under way: another hub, or the next start, sends it again. */
  async stop(): Promise<void> {
    await Promise.all(this.#deliveries.map((delivery) => delivery.stop()));
  }

  get figures(): readonly DeliveryFigures[] {
    return this.#deliveries.map(({ figures }) => figures);
  }
}

class Delivery {
  readonly #receiver: Receiver;
  readonly #parts: NotifierParts;
  readonly #log: DeliveryLog;
  readonly #stopping = new AbortController();
  #turn: Promise<void> = Promise.resolve();
  #cancelTimer: () => void = () => undefined;
  /** Nothing that is due lies at or before it, whatever the log says. */
  #floor: Place = START;
  /** Of a receiver that the log does not know. */
  #begunUs: number | null = null;
  #lookedAt: { readonly version: number; readonly number: number } | null = null;
  #repeatsLookedAtUs = -Infinity;
  #dueSinceUs: number | null = null;
  #movedUs = 0;
  #aheadSinceUs: number | null = null;
  #retryAtUs = -Infinity;
  #failuresInRow = 0;
  #figures = { delivered: 0, refused: 0, failed: 0, waiting: 0, waitingSinceUs: null as number | null, lastError: null as string | null };

  constructor(receiver: Receiver, parts: NotifierParts) {
    this.#receiver = receiver;
    this.#parts = parts;
    this.#log = new DeliveryLog(parts.store, receiver.name, parts.hubInstance);
  }

  get figures(): DeliveryFigures {
    return { receiver: this.#receiver.name, ...this.#figures };
  }

  start(): void {
    if (this.#stopping.signal.aborted) return;
    this.#cancelTimer = this.#parts.clock.after(TURN_MS, () => void this.turn().then(() => this.start()));
  }

  turn(): Promise<void> {
    this.#turn = this.#turn.then(() => this.#takeTurn());
    return this.#turn;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#cancelTimer();
    await this.#turn;
    const { delivered } = this.#log;
    if (!this.#log.isOwn || delivered === null) return;
    // Without it the next hub waits for TAKE_OVER_US.
    await this.#log.note(delivered, '').catch(() => undefined);
  }

  /** Never throws: what failed is tried again. */
  async #takeTurn(): Promise<void> {
    const { clock, logger } = this.#parts;
    if (this.#stopping.signal.aborted) return;
    if (clock.monotonicUs() < this.#retryAtUs) {
      // What waits is shown meanwhile.
      if (this.#lookedAt !== null && this.#lookedAt.version !== this.#parts.alerts.book.version) this.#look();
      return;
    }
    try {
      await this.#deliver();
      this.#failuresInRow = 0;
      this.#figures.lastError = null;
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      this.#failuresInRow++;
      this.#figures.failed++;
      this.#figures.lastError = errorMessage(error);
      const usualMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(this.#failuresInRow - 1, 10)) * (0.75 + this.#parts.random() / 2);
      const retryMs = Math.max(usualMs, error instanceof DeliveryFailure ? error.retryAfterMs : 0);
      this.#retryAtUs = clock.monotonicUs() + retryMs * 1000;
      logger.warn(
        { receiver: this.#receiver.name, error: this.#figures.lastError, waiting: this.#figures.waiting, retryMs: Math.round(retryMs) },
        'a receiver of alerts could not be told; it is tried again',
      );
    }
  }

  async #deliver(): Promise<void> {
    const { clock } = this.#parts;
    if (this.#lookedAt === null) await this.#refresh();
    if (this.#isQuiet()) return;
    if (isEmpty(this.#look())) return;
    this.#dueSinceUs ??= clock.monotonicUs();
    await this.#refresh();
    const due = this.#look();
    if (isEmpty(due) || !(await this.#hold())) return;
    const startedUs = clock.nowUs();
    for (const request of requestsOf(due.changes, this.#receiver)) {
      await this.#send(request);
      const { version, rule, id } = request[request.length - 1];
      if (!(await this.#note({ version, rule, id }))) return;
    }
    for (const request of requestsOf(due.repeats, this.#receiver)) {
      await this.#send(request);
      // The place is the same: it tells others that somebody is at work.
      if (!(await this.#note({}))) return;
    }
    if (due.repeats.length > 0 && !(await this.#note({ repeatedUs: startedUs }))) return;
    this.#look();
  }

  async #refresh(): Promise<void> {
    const before = this.#log.number;
    await this.#log.refresh();
    if (this.#log.number !== before || this.#lookedAt === null) this.#movedUs = this.#parts.clock.monotonicUs();
  }

  /** What the receiver has been told, as far as this hub knows. */
  get #delivered(): Delivered {
    const nowUs = this.#parts.clock.nowUs();
    this.#begunUs ??= nowUs;
    const noted = this.#log.delivered ?? { ...START, createdUs: this.#begunUs, repeatedUs: this.#begunUs };
    return isBehind(this.#floor, noted) ? { ...noted, ...this.#floor } : noted;
  }

  /** Nothing has changed since the last look found nothing. */
  #isQuiet(): boolean {
    const { alerts, clock } = this.#parts;
    if (this.#dueSinceUs !== null || this.#lookedAt?.version !== alerts.book.version || this.#lookedAt.number !== this.#log.number)
      return false;
    return clock.monotonicUs() - this.#repeatsLookedAtUs < Math.min(this.#receiver.repeatIntervalMs, REPEAT_CHECK_MS_MAX) * 1000;
  }

  #look(): Due {
    const { alerts, clock } = this.#parts;
    const { book } = alerts;
    this.#lookedAt = { version: book.version, number: this.#log.number };
    this.#repeatsLookedAtUs = clock.monotonicUs();
    this.#checkAhead(book);
    const due = dueOf(book, this.#receiver, this.#delivered, clock.nowUs());
    this.#figures.waiting = due.changes.length;
    this.#figures.waitingSinceUs =
      due.changes.length === 0 ? null : due.changes.reduce((us, { updatedUs }) => Math.min(us, updatedUs), Infinity);
    if (due.changes.length === 0 && book.version > this.#floor.version) this.#floor = { version: book.version, rule: '\uffff', id: '' };
    if (isEmpty(due)) this.#dueSinceUs = null;
    return due;
  }

  /** Another hub may have read more of the log of alerts; not for long. */
  #checkAhead(book: AlertBook): void {
    const { clock, logger } = this.#parts;
    const isAhead = this.#delivered.version > book.version;
    if (!isAhead) this.#aheadSinceUs = null;
    else this.#aheadSinceUs ??= clock.monotonicUs();
    if (this.#aheadSinceUs === null || clock.monotonicUs() - this.#aheadSinceUs < AHEAD_US) return;
    logger.warn(
      { receiver: this.#receiver.name, told: this.#delivered.version, log: book.version },
      'a receiver of alerts was told more than the log of alerts has: the log was begun anew, and what fires is told again',
    );
    this.#floor = START;
    this.#aheadSinceUs = null;
    this.#begunUs = clock.nowUs();
    this.#log.forget();
  }

  /** @returns whether it is this hub that sends */
  async #hold(): Promise<boolean> {
    if (this.#log.isOwn) return true;
    const nowUs = this.#parts.clock.monotonicUs();
    const quietUs = nowUs - Math.max(this.#movedUs, this.#dueSinceUs ?? nowUs);
    const isLeft = quietUs >= TAKE_OVER_US + this.#receiver.timeoutMs * 1000;
    if (!this.#log.isFree && !isLeft) return false;
    return this.#note({});
  }

  async #note(progress: Partial<Delivered>): Promise<boolean> {
    const isNoted = await this.#log.note({ ...this.#delivered, ...progress });
    this.#movedUs = this.#parts.clock.monotonicUs();
    return isNoted;
  }

  async #send(alerts: readonly Alert[]): Promise<void> {
    const { clock, externalUrl, logger } = this.#parts;
    const body = JSON.stringify(bodyOf(alerts, this.#receiver, externalUrl, clock.nowUs()));
    const { status, text, retryAfterMs } = await this.#post(body);
    if (status >= 200 && status < 300) {
      this.#figures.delivered += alerts.length;
      return;
    }
    if (!REFUSALS.has(status)) throw new DeliveryFailure(`it answered ${status}: ${text}`, Math.min(retryAfterMs ?? 0, RETRY_AFTER_MS_MAX));
    if (alerts.length > 1) {
      for (const alert of alerts) await this.#send([alert]);
      return;
    }
    this.#figures.refused++;
    const [{ id, rule }] = alerts;
    logger.warn({ receiver: this.#receiver.name, alert: id, rule, status, answer: text }, 'a receiver refuses an alert; it is passed over');
  }

  async #post(body: string) {
    const { kind, url, timeoutMs } = this.#receiver;
    const target = kind === 'alertmanager' ? `${url.replace(/\/+$/, '')}/api/v2/alerts` : url;
    const headers = await this.#headers();
    const deadline = new AbortController();
    const cancel = this.#parts.clock.after(timeoutMs, () => deadline.abort(new Error(`no answer within ${timeoutMs} ms`)));
    try {
      return await this.#parts.post(target, body, headers, AbortSignal.any([deadline.signal, this.#stopping.signal]));
    } catch (cause) {
      const reason: unknown = deadline.signal.aborted ? deadline.signal.reason : cause;
      throw new DeliveryFailure(networkMessage(reason), 0, cause);
    } finally {
      cancel();
    }
  }

  async #headers(): Promise<Record<string, string>> {
    const { headers, headerFiles, headerEnv } = this.#receiver;
    const all: Record<string, string> = { ...headers };
    for (const [name, variable] of Object.entries(headerEnv)) {
      const value = this.#parts.env[variable];
      if (value === undefined) throw new DeliveryFailure(`the header ${name} is to come from the environment, and ${variable} is not set`);
      all[name] = value;
    }
    for (const [name, path] of Object.entries(headerFiles)) {
      try {
        all[name] = (await readFile(path, 'utf8')).trim();
      } catch (cause) {
        throw new DeliveryFailure(`the header ${name} is to come from ${path}: ${errorMessage(cause)}`, 0, cause);
      }
    }
    return all;
  }
}

class DeliveryFailure extends SluiceError {
  readonly retryAfterMs: number;

  constructor(message: string, retryAfterMs = 0, cause?: unknown) {
    super('ERR_ALERT_DELIVERY', message, { cause });
    this.retryAfterMs = retryAfterMs;
  }
}

function isEmpty({ changes, repeats }: Due): boolean {
  return changes.length === 0 && repeats.length === 0;
}

/** Of a host with several addresses Node gives an error for each, and no words of its own. */
function networkMessage(error: unknown): string {
  return error instanceof AggregateError ? error.errors.map(errorMessage).join('; ') : errorMessage(error);
}
