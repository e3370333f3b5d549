/**
 * Publishers, subscribers with persistent sessions and the ledger of what they sent and heard: what `sessions` holds a gateway to.
 *
 * Subscribers are there all the time, slow in their answers, asleep now and then, or subscribe and unsubscribe. None of them
 * subscribes again because of a lost connection.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { fetchJson, type GatewayProgram } from '../e2e/processes.ts';
import { LakeReader } from '../../firmware-sim/verify/lake-reader.ts';
import { SeededRandom } from './random.ts';
import { SessionClient } from './session-client.ts';
import { compareTally, Tally, type Spans, type Topic } from './session-ledger.ts';
import type { Trial } from './trial.ts';

const PUBLISHERS = [
  { name: 'publisher-1a', qos: 1 },
  { name: 'publisher-1b', qos: 1 },
  { name: 'publisher-2a', qos: 2 },
  { name: 'publisher-2b', qos: 2 },
] as const;
const SLEEPERS = ['sleeper-1', 'sleeper-2'] as const;
const MESSAGES_PER_SECOND = 20;
/** Of one publisher; what waits at a dead gateway comes at once when it is back. */
const UNFINISHED_MAX = 20;
/** Chosen: a subscriber of such a slowness is in the middle of some handshake at most kills. */
const SLOW_ACK_MS = 15;
/** So long after the last message nothing more came. */
const QUIET_MS = 1_500;
const POLL_MS = 100;

interface Publisher {
  readonly client: SessionClient;
  readonly name: string;
  readonly qos: 1 | 2;
  readonly telemetry: Topic;
  readonly commands: readonly Topic[];
  readonly retained: Topic;
}

interface Subscriber {
  readonly client: SessionClient;
  readonly name: string;
  readonly qos: 1 | 2;
  readonly filters: readonly string[];
  readonly heard: Map<string, Tally>;
}

const numberOf = (payload: Buffer): number => (JSON.parse(payload.toString()) as { readonly n: number }).n;

function tallyOf(heard: Map<string, Tally>, topic: string): Tally {
  let tally = heard.get(topic);
  if (tally === undefined) heard.set(topic, (tally = new Tally()));
  return tally;
}

export class SessionWorld {
  readonly publishers: readonly Publisher[];
  readonly subscribers: readonly Subscriber[];
  readonly #trial: Trial;
  readonly #gateway: GatewayProgram;
  #lastHeardMs = performance.now();
  #observers = 0;
  readonly #spans: Spans = { owed: new Set(), unwanted: new Set() };
  readonly #switcher: Subscriber;
  /** Beside that of the faults, whose order must not hang on who comes first. */
  readonly #random: SeededRandom;
  readonly #switched: Topic;
  /** Telemetry of QoS 1 has times of its own, all different. */
  #newestMs = 0;

  constructor(trial: Trial, gateway: GatewayProgram) {
    this.#trial = trial;
    this.#random = new SeededRandom(trial.seed + 1);
    this.#gateway = gateway;
    this.publishers = PUBLISHERS.map(({ name, qos }) => {
      const topic = (text: string): Topic => ({ name: text, qos, sent: 0, acknowledged: new Set(), completed: new Set() });
      const commands = SLEEPERS.map((sleeper) => topic(`commands/${sleeper}/${name}`));
      const client = this.#client(name, 0, () => undefined);
      return { client, name, qos, telemetry: topic(`devices/${name}/telemetry`), commands, retained: topic(`site/${name}`) };
    });
    const topics = this.publishers.flatMap(({ telemetry, commands }) => [telemetry, ...commands]).map(({ name }) => name);
    this.subscribers = [
      this.#subscriber('recorder-1', 1, 0, topics),
      this.#subscriber('recorder-2', 2, 0, topics),
      this.#subscriber('slow-2', 2, SLOW_ACK_MS, topics),
      this.#subscriber('sleeper-1', 1, SLOW_ACK_MS, ['commands/sleeper-1/#']),
      this.#subscriber('sleeper-2', 2, SLOW_ACK_MS, ['commands/sleeper-2/+']),
    ];
    this.#switched = this.publishers[2].telemetry;
    this.#switcher = this.#subscriber('switcher-2', 2, 0, [this.#switched.name]);
  }

  get clients(): readonly SessionClient[] {
    return [...this.publishers, ...this.subscribers, this.#switcher].map(({ client }) => client);
  }

  #client(clientId: string, ackDelayMs: number, onMessage: (topic: string, payload: Buffer) => void): SessionClient {
    const onWrong = (text: string): void => this.#trial.violation(text);
    const client = new SessionClient({ clientId, port: this.#gateway.mqttPort, ackDelayMs, onMessage, onWrong });
    this.#trial.onClose(() => client.sleep());
    return client;
  }

  #subscriber(name: string, qos: 1 | 2, ackDelayMs: number, filters: readonly string[]): Subscriber {
    const heard = new Map<string, Tally>();
    const client = this.#client(name, ackDelayMs, (topic, payload) => {
      this.#lastHeardMs = performance.now();
      tallyOf(heard, topic).add(numberOf(payload));
    });
    return { client, name, qos, filters, heard };
  }

  /** All sessions exist before the first message. */
  async open(): Promise<void> {
    for (const client of this.clients) client.wake();
    await Promise.all([
      ...this.subscribers.map(({ client, filters, qos }) => client.subscribe(filters, qos)),
      ...this.publishers.map(({ client, name }) => client.subscribe([`commands/${name}/#`], 1)),
      this.#switcher.client.subscribe(['commands/switcher-2'], 1), // its session is there also when it has unsubscribed
    ]);
    for (const client of this.clients) client.expectSession();
  }

  #send(client: SessionClient, topic: Topic, isRetained: boolean): void {
    const n = topic.sent++;
    this.#newestMs = Math.max(Date.now(), this.#newestMs + 1);
    const payload = topic.qos === 1 && topic.name.startsWith('devices/') ? { n, ts: this.#newestMs } : { n };
    const bytes = Buffer.from(JSON.stringify(payload));
    const acknowledged = client.publish(topic.name, bytes, topic.qos, isRetained, () => topic.completed.add(n));
    void acknowledged.then(() => topic.acknowledged.add(n));
  }

  /** Publishes while it may. */
  async publish(mayGoOn: () => boolean): Promise<void> {
    for (let turn = 0; mayGoOn(); turn++) {
      for (const { client, telemetry, commands, retained } of this.publishers) {
        if (client.unfinished >= UNFINISHED_MAX) continue;
        const topics = [telemetry, ...commands, retained];
        const topic = topics[turn % topics.length];
        this.#send(client, topic, topic === retained);
      }
      await sleep(1000 / MESSAGES_PER_SECOND);
    }
  }

  /** Subscribes and unsubscribes, in the middle of kills as well; both count from their acknowledgement on. */
  async switch(mayGoOn: () => boolean): Promise<void> {
    const { client } = this.#switcher;
    const { name } = this.#switched;
    while (mayGoOn()) {
      await client.subscribe([name], 2);
      const from = this.#switched.sent;
      await sleep(this.#random.between(500, 2_500));
      for (let number = from; number < this.#switched.sent; number++)
        if (this.#switched.completed.has(number)) this.#spans.owed.add(number);
      await client.unsubscribe(name);
      const after = this.#switched.sent;
      await sleep(this.#random.between(200, 1_500));
      for (let number = after; number < this.#switched.sent; number++)
        if (this.#switched.acknowledged.has(number)) this.#spans.unwanted.add(number);
    }
  }

  /** Somebody who comes for the first time is told what is retained. */
  async checkRetained(timeoutMs: number, isLast: boolean): Promise<void> {
    const floors = this.publishers.map(({ retained }) => Math.max(-1, ...retained.acknowledged));
    const seen = new Map<string, number>();
    const observer = new SessionClient({
      clientId: `observer-${++this.#observers}`,
      port: this.#gateway.mqttPort,
      isPersistent: false,
      onMessage: (topic, payload) => seen.set(topic, Math.max(seen.get(topic) ?? -1, numberOf(payload))),
    });
    observer.wake();
    const endMs = performance.now() + timeoutMs;
    void observer.subscribe(['site/#'], 1);
    const isDue = ({ retained }: Publisher, index: number): boolean => floors[index] >= 0 && !seen.has(retained.name);
    while (performance.now() < endMs && this.publishers.some(isDue)) await sleep(POLL_MS);
    observer.sleep();
    for (const [index, { retained }] of this.publishers.entries()) {
      const number = seen.get(retained.name);
      if (number === undefined ? isLast && floors[index] >= 0 : number < floors[index])
        this.#trial.violation(`${retained.name}: retained is ${number ?? 'nothing'}, ${floors[index]} was acknowledged before`);
    }
  }

  /** Everybody is there, everything is acknowledged and nothing comes any more. */
  async drain(timeoutMs: number): Promise<void> {
    for (const client of this.clients) client.wake();
    const endMs = performance.now() + timeoutMs;
    const unfinished = (): number => this.publishers.reduce((sum, { client }) => sum + client.unfinished, 0);
    const isQuiet = async (): Promise<boolean> => {
      if (unfinished() > 0 || performance.now() - this.#lastHeardMs < QUIET_MS) return false;
      const { broker } = await fetchJson<{ readonly broker: { readonly queued_messages: number } }>(`${this.#gateway.httpUrl}/v1/status`);
      return broker.queued_messages === 0;
    };
    while (!(await isQuiet())) {
      if (performance.now() > endMs) {
        const waiting = `${unfinished()} messages of publishers were not acknowledged, or queues not empty`;
        return this.#trial.violation(`${waiting} ${timeoutMs / 1000} s after the faults`);
      }
      await sleep(POLL_MS);
    }
  }

  async judge(lakeDir: string, waitMs: number): Promise<void> {
    for (const { name, qos, heard, filters } of this.subscribers) {
      const isMine = (topic: string): boolean => filters.some((filter) => filter === topic || topic.startsWith(filter.slice(0, -1)));
      for (const { telemetry, commands } of this.publishers)
        for (const topic of [telemetry, ...commands])
          if (isMine(topic.name))
            this.#trial.found(compareTally(`at ${name}`, topic, tallyOf(heard, topic.name), qos === 2 && topic.qos === 2));
    }
    const switched = tallyOf(this.#switcher.heard, this.#switched.name);
    this.#trial.found(compareTally(`at ${this.#switcher.name}`, this.#switched, switched, true, this.#spans));
    const endMs = performance.now() + waitMs;
    for (;;) {
      const { series } = await new LakeReader(lakeDir).read();
      const findings = this.publishers.map(({ name, telemetry }) => {
        const tally = new Tally();
        for (const { rows } of series.filter(({ device, metric }) => device === name && metric === 'n')) {
          for (const { value } of rows) tally.add(value);
        }
        return compareTally('in the lake', telemetry, tally, true);
      });
      if (findings.some(({ lost }) => lost > 0) && performance.now() < endMs) {
        await sleep(1_000);
        continue;
      }
      for (const finding of findings) this.#trial.found(finding);
      return;
    }
  }
}
