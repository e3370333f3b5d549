/**
 * A device that counts, and a reader that asks the hub how far the count has come: how old live data is where it is asked
 * for, with no clock but one and nothing inside the programs.
 *
 * Every `intervalMs` it publishes the next whole number at QoS 1; every `pollMs` it asks /v1/aggregates for the greatest one
 * that is visible. What is not visible when it stops counts with the age that it has then.
 */
import { connect, type Socket } from 'node:net';
import { mqttConnect, mqttPublish } from './load-protocols.ts';
import { pause } from './processes.ts';

export interface ProbeResult {
  /** From published to visible, one per message. */
  readonly visibleMs: readonly number[];
  /** The same for the server-sent events; empty where they were not listened to. */
  readonly streamMs: readonly number[];
  /** How old the newest visible message was, one per poll. */
  readonly agesMs: readonly number[];
}

interface Row {
  readonly device: string;
  readonly max: number;
}

const DEVICE = 'probe';
const METRIC = 'count';
const OVERLOADED = 503;
const QUERY = `window=10s&device=${DEVICE}&metric=${METRIC}&functions=max`;

export class FreshnessProbe {
  readonly #socket: Socket;
  readonly #hubUrl: string;
  readonly #sentMs: number[] = [];
  readonly #visibleMs: number[] = [];
  readonly #streamMs: number[] = [];
  readonly #agesMs: number[] = [];
  readonly #abort = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #loops: Promise<void>[];
  #stopping = false;

  static async start(mqttPort: number, hubUrl: string, { intervalMs = 50, pollMs = 20 } = {}): Promise<FreshnessProbe> {
    const socket = connect({ port: mqttPort, host: '127.0.0.1', noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.once('data', () => resolve()); // CONNACK; acknowledgements after it are of no interest here
      socket.write(mqttConnect(DEVICE));
    });
    socket.resume();
    return new FreshnessProbe(socket, hubUrl, intervalMs, pollMs);
  }

  private constructor(socket: Socket, hubUrl: string, intervalMs: number, pollMs: number) {
    this.#socket = socket;
    this.#hubUrl = hubUrl;
    this.#timer = setInterval(() => this.#publish(), intervalMs);
    this.#loops = [this.#poll(pollMs), this.#listen()];
    for (const loop of this.#loops) loop.catch(() => undefined); // told by stop()
  }

  /** Forgets what was measured so far: the warm-up. */
  reset(): void {
    this.#agesMs.length = 0;
    // The messages stay numbered; those sent before now do not count.
    this.#visibleMs.fill(NaN);
    this.#streamMs.fill(NaN);
  }

  async stop(): Promise<ProbeResult> {
    clearInterval(this.#timer);
    const nowMs = performance.now();
    this.#stopping = true;
    this.#abort.abort();
    await Promise.all(this.#loops);
    this.#socket.destroy();
    for (let index = this.#visibleMs.length; index < this.#sentMs.length; index++) this.#visibleMs.push(nowMs - this.#sentMs[index]);
    const known = (value: number): boolean => !Number.isNaN(value);
    return { visibleMs: this.#visibleMs.filter(known), streamMs: this.#streamMs.filter(known), agesMs: this.#agesMs };
  }

  #publish(): void {
    const count = this.#sentMs.push(performance.now());
    this.#socket.write(mqttPublish(`devices/${DEVICE}/telemetry`, ((count - 1) % 0xffff) + 1, `{"ts":${Date.now()},"${METRIC}":${count}}`));
  }

  #see(count: number, delaysMs: number[]): void {
    const nowMs = performance.now();
    for (let index = delaysMs.length; index < Math.min(count, this.#sentMs.length); index++) delaysMs.push(nowMs - this.#sentMs[index]);
  }

  async #poll(pollMs: number): Promise<void> {
    let newest = 0;
    while (!this.#stopping) {
      const answer = await fetch(`${this.#hubUrl}/v1/aggregates?${QUERY}&from=now-60s`);
      if (answer.status === OVERLOADED) {
        // What cannot be asked for is not visible: its age goes on.
        await answer.arrayBuffer();
        await pause(pollMs);
        continue;
      }
      if (!answer.ok) throw new Error(`the hub answered ${answer.status}: ${await answer.text()}`);
      const { rows } = (await answer.json()) as { rows: Row[] };
      newest = rows.reduce((max, row) => Math.max(max, row.max), newest);
      this.#see(newest, this.#visibleMs);
      // Nothing visible yet: the age is at least that of the first message.
      const sentMs = this.#sentMs[Math.max(0, newest - 1)];
      if (sentMs !== undefined) this.#agesMs.push(performance.now() - sentMs);
      await pause(pollMs);
    }
  }

  /** The server-sent events: `data:` lines of `event: window`. */
  async #listen(): Promise<void> {
    const decoder = new TextDecoder();
    let held = '';
    try {
      const answer = await fetch(`${this.#hubUrl}/v1/stream?${QUERY}`, { signal: this.#abort.signal });
      if (!answer.ok || answer.body === null) throw new Error(`the hub answered ${answer.status} to the stream`);
      for await (const chunk of answer.body) {
        held += decoder.decode(chunk as Uint8Array, { stream: true });
        const lines = held.split('\n');
        held = lines.pop() ?? '';
        for (const line of lines) {
          if (!line.startsWith('data:') || !line.includes(`"${DEVICE}"`)) continue;
          const { rows } = JSON.parse(line.slice(5)) as { rows?: Row[] };
          this.#see(
            (rows ?? []).reduce((max, row) => Math.max(max, row.device === DEVICE ? row.max : 0), 0),
            this.#streamMs,
          );
        }
      }
    } catch (error) {
      if (!this.#stopping) throw error; // aborted by stop()
    }
  }
}
