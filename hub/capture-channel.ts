/**
 * Captures for another thread than the main one: a port of its own to the engine's thread, so that a hot query crosses two
 * threads and not three, and is served between two steps of the engine and not behind the batches that wait there.
 *
 * Layout: a request is one filter, an answer one capture, each with the request's number. The partials of a capture go
 * packed (packed-partials.ts), handed over.
 *
 * However many are asked for, the engine gets on with its work: captures that took TURN_MS or more rest for as long.
 *
 * What a caller sees: a capture is made after it was asked for. Whatever the hub has acknowledged before, the engine had
 * taken in before it said so, so it is in the capture.
 */
import { receiveMessageOnPort, type MessagePort } from 'node:worker_threads';
import { errorMessage, SluiceError } from '../shared/errors.ts';
import { buffersOf } from '../shared/window/packed-partials.ts';
import type { AggregateCapture, AggregateFilter } from './engine-api.ts';
import { packed } from './packed-capture.ts';

const TURN_MS = 4;

interface CaptureRequest {
  readonly id: number;
  readonly filter: AggregateFilter;
}

type CaptureReply =
  | { readonly id: number; readonly ok: true; readonly capture: AggregateCapture }
  | { readonly id: number; readonly ok: false; readonly message: string };

/**
 * Answers what comes over the port, until it is closed.
 *
 * @returns serves what has come meanwhile without waiting for the event loop; about a µs where there is nothing
 */
export function serveCaptures(
  port: MessagePort,
  capture: (filter: AggregateFilter) => AggregateCapture | Promise<AggregateCapture>,
): () => void {
  const reply = (message: CaptureReply, transfer: readonly ArrayBuffer[] = []): void => port.postMessage(message, transfer);
  const serve = ({ id, filter }: CaptureRequest): void => {
    const fail = (error: unknown): void => reply({ id, ok: false, message: errorMessage(error) });
    const send = (made: AggregateCapture): void => {
      const sent = packed(made);
      reply({ id, ok: true, capture: sent }, buffersOf(sent.tail));
    };
    try {
      const made = capture(filter);
      if (made instanceof Promise) made.then(send, fail);
      else send(made);
    } catch (error) {
      fail(error);
    }
  };
  const waiting: CaptureRequest[] = [];
  let restUntilMs = 0;
  let isTurnDue = false;
  const turn = (): void => {
    const startMs = performance.now();
    if (startMs < restUntilMs) return;
    do {
      const next = waiting.shift() ?? (receiveMessageOnPort(port)?.message as CaptureRequest | undefined);
      if (next === undefined) return;
      serve(next);
    } while (performance.now() < startMs + TURN_MS);
    const tookMs = performance.now() - startMs;
    restUntilMs = startMs + 2 * tookMs;
    if (!isTurnDue) later(tookMs);
  };
  const later = (restMs: number): void => {
    isTurnDue = true;
    setTimeout(() => {
      isTurnDue = false;
      restUntilMs = 0;
      turn();
    }, restMs);
  };
  // The event loop hands over all that has come at once.
  port.on('message', (request: CaptureRequest) => {
    waiting.push(request);
    turn();
  });
  return turn;
}

export class CaptureClient {
  readonly #port: MessagePort;
  readonly #waiters = new Map<number, { resolve(capture: AggregateCapture): void; reject(error: Error): void }>();
  #nextId = 1;
  #isClosed = false;

  constructor(port: MessagePort) {
    this.#port = port;
    port.on('message', (reply: CaptureReply) => {
      const waiter = this.#waiters.get(reply.id);
      this.#waiters.delete(reply.id);
      if (reply.ok) waiter?.resolve(reply.capture);
      else waiter?.reject(new Error(reply.message));
    });
    // Of either end; nobody answers any more.
    port.on('close', () => {
      this.#isClosed = true;
      for (const { reject } of this.#waiters.values()) reject(closed());
      this.#waiters.clear();
    });
  }

  /** @throws SluiceError ERR_HTTP_UNAVAILABLE: the channel is closed */
  capture(filter: AggregateFilter): Promise<AggregateCapture> {
    const id = this.#nextId++;
    if (this.#isClosed) return Promise.reject(closed());
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      this.#port.postMessage({ id, filter } satisfies CaptureRequest);
    });
  }

  close(): void {
    this.#port.close();
  }
}

function closed(): SluiceError {
  return new SluiceError('ERR_HTTP_UNAVAILABLE', 'the hub is stopping');
}
