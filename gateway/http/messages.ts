/**
 * `GET /v1/messages`: messages as they come, as server-sent events.
 *
 * Events: `message` (a SeenMessage), `left_out` ({"count"}: how many matched and were not shown, at most every second).
 * A client that does not read gets no queue: what does not fit into BUFFER_BYTES is left out and counted.
 */
import type { Clock } from '../../shared/clock.ts';
import type { MessageTap } from '../tail/message-tap.ts';

const BUFFER_BYTES = 256 * 1024;
const LEFT_OUT_INTERVAL_MS = 1_000;
/** Silent connections are closed by proxies after 60 s, commonly. */
const COMMENT_INTERVALS = 15;

export class MessageStreams {
  readonly #tap: MessageTap;
  readonly #clock: Clock;
  readonly #open = new Set<() => void>();

  constructor(tap: MessageTap, clock: Clock) {
    this.#tap = tap;
    this.#clock = clock;
  }

  /** @throws SluiceError ERR_HTTP_PARAMETER, ERR_HTTP_UNAVAILABLE */
  response(filter: string): Response {
    const encoder = new TextEncoder();
    let controller!: ReadableStreamDefaultController<Uint8Array>;
    const send = (event: string, data: unknown): void =>
      controller.enqueue(encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));
    const view = this.#tap.open(filter, {
      ready: () => (controller.desiredSize ?? 0) > 0,
      message: (message) => send('message', message),
    });
    let cancelTimer = (): void => undefined;
    let intervals = 0;
    const everySecond = (): void => {
      cancelTimer = this.#clock.after(LEFT_OUT_INTERVAL_MS, everySecond);
      if ((controller.desiredSize ?? 0) <= 0) return;
      const count = view.takeLeftOut();
      if (count > 0) send('left_out', { count });
      else if (++intervals % COMMENT_INTERVALS === 0) controller.enqueue(encoder.encode(': still here\n\n'));
    };
    const end = (): void => {
      cancelTimer();
      view.close();
      this.#open.delete(finish);
    };
    const finish = (): void => {
      end();
      controller.close();
    };
    const stream = new ReadableStream<Uint8Array>(
      {
        start: (own) => {
          controller = own;
          // The headers leave with the first bytes: the client knows that it is connected.
          controller.enqueue(encoder.encode(': messages as they come\n\n'));
        },
        cancel: end,
      },
      new ByteLengthQueuingStrategy({ highWaterMark: BUFFER_BYTES }),
    );
    this.#open.add(finish);
    everySecond();
    return new Response(stream, {
      headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' },
    });
  }

  stop(): void {
    for (const finish of this.#open) finish();
  }
}
