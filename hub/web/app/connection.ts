/** Whether the hub answers, said clearly: chip in the header, banner, dimmed page, one announcement. */
import type { HubError } from '../../../shared/hub-client/sluice-hub.ts';
import { byId, setText } from './dom.ts';
import { formatTime } from './format.ts';

type State = 'connecting' | 'live' | 'polling' | 'lost' | 'unauthorized';

const WORDS: Readonly<Record<State, string>> = {
  connecting: 'Connecting',
  live: 'Live',
  polling: 'Live, every few seconds',
  lost: 'No connection',
  unauthorized: 'Token needed',
};

export class Connection {
  readonly #onUnauthorized: (error: HubError) => void;
  #state: State = 'connecting';
  #isStreaming = false;
  #lastAnswerMs: number | null = null;

  constructor(onUnauthorized: (error: HubError) => void) {
    this.#onUnauthorized = onUnauthorized;
  }

  get isLost(): boolean {
    return this.#state === 'lost';
  }

  /** Outcome of any request; an error that is an answer proves the connection as well. */
  outcome(error: HubError | null): void {
    if (error !== null && error.status === 0) return this.#set('lost');
    if (error !== null && (error.status === 401 || error.status === 403)) {
      this.#set('unauthorized');
      return this.#onUnauthorized(error);
    }
    this.#lastAnswerMs = Date.now();
    this.#set(this.#isStreaming ? 'live' : 'polling');
  }

  streaming(isStreaming: boolean): void {
    this.#isStreaming = isStreaming;
    if (this.#state === 'live' || this.#state === 'polling') this.#set(isStreaming ? 'live' : 'polling');
  }

  #set(state: State): void {
    if (state === this.#state) return;
    const wasLost = this.#state === 'lost';
    this.#state = state;
    const chip = byId('connection');
    chip.dataset['state'] = state;
    setText(chip, WORDS[state]);
    document.body.dataset['connection'] = state;
    const banner = byId('banner');
    banner.hidden = state !== 'lost';
    if (state === 'lost') {
      const since = this.#lastAnswerMs === null ? '' : ` What stands below is from ${formatTime(this.#lastAnswerMs, Date.now())}.`;
      setText(
        banner,
        `The hub at ${location.host} does not answer.${since} Gateways keep their readings meanwhile; this page tries again by itself.`,
      );
    } else if (wasLost) {
      setText(byId('announce'), 'The connection to the hub is back.');
    }
  }
}
