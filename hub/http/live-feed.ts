/**
 * What the subscribers of /v1/stream see: windows that changed, the state of the gateways, and alerts, once a second.
 *
 * Layout: subscribers with the same filter share a channel. A channel holds the rows of its newest windows, each with the
 * version at which it last changed; a subscriber holds nothing but the version that it has been sent. Who reads slowly is
 * therefore never queued for: it gets the newest state of everything that changed since, in one event.
 *
 * Alerts are in the hub's memory as they are: a subscriber is told of those that changed behind the version that it has seen,
 * each as it is now.
 *
 * Bounds: clients, channels, rows per channel, gateways and alerts per event; one query at a time for all channels; a client that
 * takes nothing for a minute is cut, and every stream ends after a while, so that a revoked token stops reading.
 *
 * Resume: the id of a window event is the hub's time at which its rows were read. Who comes back with it first gets, in one
 * event, every window that could have changed since, within an hour and the rows of one event; so ids hold across hubs and
 * their restarts, and nothing is kept for who is away.
 *
 * It does not replay: older windows that something late changes are for GET /v1/aggregates to tell.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logging.ts';
import { problemOf } from '../../shared/problem.ts';
import type { WindowDefinition } from '../../shared/window/definition.ts';
import { windowRowTexts } from '../query/aggregate-document.ts';
import type { AggregateAnswer, AggregateRow } from '../query/query-api.ts';
import { alertMatcher, compareAlerts } from '../alerts/alerts.ts';
import { renderAlert } from './alerts.ts';
import { gatewaysAnswer } from './gateways.ts';
import type { HubServices } from './service.ts';
import { formatTime } from './times.ts';
import type { WindowFilter } from './window-rows.ts';

const CLIENTS_MAX = 64;
const CHANNELS_MAX = 16;
/** About 0.8 MB an event. */
const ROWS_MAX = 2_000;
const GATEWAYS_MAX = 1_000;
const ALERTS_MAX = 1_000;
const ROUND_MS = 1_000;
const HEARTBEAT_US = 15_000_000;
const STALLED_US_MAX = 60_000_000;
const STREAM_US_MAX = 600_000_000;
/** Windows older than this change only by what is late. */
const LOOK_BACK_US_MIN = 30_000_000;
const SLICE_ROWS = 256;
/** Who was away for longer starts anew, as a first visitor does. */
const RESUME_US_MAX = 3_600_000_000;
/** An alert becomes known a while after the time that it has, and hubs' clocks differ: those of so long before are told again. */
const ALERTS_AGAIN_US = 10_000_000;

interface LiveRow {
  readonly json: string;
  /** The channel's version when it took this text. */
  readonly version: number;
}

interface Channel {
  readonly definition: WindowDefinition;
  readonly filter: WindowFilter;
  readonly clients: Set<LiveClient>;
  rows: Map<string, LiveRow>;
  /** Counts the answers taken; 0: none yet. Moves in the same step as `rows`. */
  version: number;
  /** Members of the event besides the rows. */
  head: string;
  /** Hub time at which the rows were asked for. */
  readUs: number;
  /** Why the last round has no rows; null: it has. */
  problem: string | null;
}

type FeedServices = Pick<HubServices, 'query' | 'engine' | 'alerts' | 'gateways' | 'uplink' | 'metrics' | 'clock' | 'logger' | 'isReady'>;

/** One subscriber, as the source of its response's body. */
class LiveClient {
  readonly channel: Channel;
  readonly startedUs: number;
  /** Ends the connection with what still waits in it. */
  readonly cut: () => void;
  sentVersion = 0;
  sentGateways = 0;
  /** null: nothing yet. */
  sentAlerts: number | null = null;
  /** Alerts that ended since then are told, besides those that hold; null: none. */
  readonly alertsSinceUs: number | null;
  sentProblem: string | null = null;
  /** What it last saw was read then; null: it has seen nothing, or has been brought up to date. */
  sinceUs: number | null;
  /** Sent before anything else. */
  catchUp: string | null = null;
  /** When something was last taken from us, or nothing had to be. */
  progressUs: number;
  wake: (() => void) | null = null;
  controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  isOver = false;

  constructor(channel: Channel, nowUs: number, cut: () => void, sinceUs: number | null) {
    this.channel = channel;
    this.sinceUs = sinceUs;
    this.alertsSinceUs = sinceUs === null ? null : sinceUs - ALERTS_AGAIN_US;
    this.cut = cut;
    this.startedUs = nowUs;
    this.progressUs = nowUs;
  }
}

export class LiveFeed {
  readonly #services: FeedServices;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #channels = new Map<string, Channel>();
  #clients = new Set<LiveClient>();
  #gateways = { json: '', time: '', version: 0 };
  #isTicking = false;
  #serial: Promise<void> = Promise.resolve();

  constructor(services: FeedServices) {
    this.#services = services;
    this.#clock = services.clock;
    this.#logger = services.logger;
  }

  /**
   * @param cut ends the client's connection when it takes nothing
   * @param sinceUs the id of the last event that the client has seen; null: none
   * @returns the bytes of an event stream, without end until the client, the hub or ten minutes end it
   * @throws SluiceError ERR_HTTP_UNAVAILABLE at the limits
   */
  subscribe(
    definition: WindowDefinition,
    filter: WindowFilter,
    cut: () => void,
    sinceUs: number | null = null,
  ): ReadableStream<Uint8Array> {
    if (this.#clients.size >= CLIENTS_MAX)
      throw new SluiceError('ERR_HTTP_UNAVAILABLE', `${this.#clients.size} streams are open, at most ${CLIENTS_MAX} may be`);
    const awayUs = sinceUs === null ? Infinity : this.#clock.nowUs() - sinceUs;
    const since = awayUs >= 0 && awayUs <= RESUME_US_MAX ? sinceUs : null;
    const client = new LiveClient(this.#channel(definition, filter), this.#clock.monotonicUs(), cut, since);
    client.channel.clients.add(client);
    this.#clients.add(client);
    this.#services.metrics.setStreams(this.#clients.size);
    void this.#serially(() => this.#newcomer(client));
    this.#startTicking();
    const encoder = new TextEncoder();
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        client.controller = controller;
        controller.enqueue(encoder.encode('retry: 2000\n\n'));
      },
      // Called when the client has room: who reads slowly is asked seldom, and then gets what is newest.
      pull: async (controller) => {
        const text = await this.#nextText(client);
        client.progressUs = this.#clock.monotonicUs();
        if (!client.isOver) controller.enqueue(encoder.encode(text));
      },
      cancel: () => this.#remove(client),
    });
  }

  #channel(definition: WindowDefinition, filter: WindowFilter): Channel {
    const key = JSON.stringify([definition.name, filter]);
    const known = this.#channels.get(key);
    if (known !== undefined) return known;
    if (this.#channels.size >= CHANNELS_MAX)
      throw new SluiceError('ERR_HTTP_UNAVAILABLE', `${this.#channels.size} different streams are open, at most ${CHANNELS_MAX} may be`);
    const channel: Channel = { definition, filter, clients: new Set(), rows: new Map(), version: 0, head: '', readUs: 0, problem: null };
    this.#channels.set(key, channel);
    return channel;
  }

  #remove(client: LiveClient): void {
    client.isOver = true;
    client.wake?.();
    this.#clients.delete(client);
    this.#services.metrics.setStreams(this.#clients.size);
    client.channel.clients.delete(client);
    if (client.channel.clients.size > 0) return;
    for (const [key, channel] of this.#channels) if (channel === client.channel) this.#channels.delete(key);
  }

  // --- rounds --------------------------------------------------------------------------------------------------------

  #startTicking(): void {
    if (this.#isTicking) return;
    this.#isTicking = true;
    this.#clock.after(ROUND_MS, () => void this.#serially(() => this.#tick()));
  }

  /** Rounds and newcomers take turns: one query of ours at a time leaves the others to whoever asks. */
  #serially(task: () => Promise<void>): Promise<void> {
    this.#serial = this.#serial.then(task).catch((error: unknown) => {
      this.#logger.error({ err: error }, 'a round of the live stream failed; the next one follows');
    });
    return this.#serial;
  }

  async #tick(): Promise<void> {
    this.#isTicking = false;
    if (this.#services.isReady()) {
      for (const channel of this.#channels.values()) await this.#refresh(channel);
      await this.#refreshGateways();
    }
    this.#endWhoeverIsDue();
    for (const client of this.#clients) client.wake?.();
    if (this.#clients.size > 0) this.#startTicking();
  }

  /** The first to ask for a channel does not wait for the next round; while nobody asked, the gateways' state grew old. */
  async #newcomer(client: LiveClient): Promise<void> {
    const { channel } = client;
    if (client.isOver) return;
    if (client.sinceUs !== null) await this.#prepareCatchUp(client, client.sinceUs);
    if (channel.version === 0) {
      await this.#refreshGateways();
      await this.#refresh(channel);
    }
    for (const client of channel.clients) client.wake?.();
  }

  #endWhoeverIsDue(): void {
    const nowUs = this.#clock.monotonicUs();
    for (const client of this.#clients) {
      const isStalled = client.wake === null && nowUs - client.progressUs > STALLED_US_MAX;
      if (!isStalled && this.#services.isReady() && nowUs - client.startedUs <= STREAM_US_MAX) continue;
      this.#remove(client);
      if (isStalled) client.cut();
      else client.controller?.close();
    }
  }

  async #refresh(channel: Channel): Promise<void> {
    try {
      const readUs = this.#clock.nowUs();
      await this.#take(channel, await this.#ask(channel), readUs);
      channel.problem = null;
    } catch (error) {
      if (!(error instanceof SluiceError)) this.#logger.error({ err: error }, 'a query of the live stream failed unexpectedly');
      channel.problem = JSON.stringify(problemOf(error));
    }
  }

  /** Everything that can have changed since: from where a round of that time looked back to. */
  async #prepareCatchUp(client: LiveClient, sinceUs: number): Promise<void> {
    const { channel } = client;
    const nowUs = this.#clock.nowUs();
    try {
      const answer = await this.#ask(channel, nowUs - sinceUs);
      const rows: string[] = [];
      for (let from = 0; from < answer.rows.length; from += SLICE_ROWS) {
        if (from > 0) await nextTurn();
        rows.push(...windowRowTexts(answer.rows.slice(from, from + SLICE_ROWS), channel.filter.functions));
      }
      client.catchUp = windowEvent(nowUs, headOf(channel.definition, answer), rows);
    } catch (error) {
      if (!(error instanceof SluiceError)) this.#logger.error({ err: error }, 'a stream could not be resumed; it starts anew');
    }
    client.sinceUs = null;
  }

  async #ask({ definition, filter }: Channel, awayUs = 0): Promise<AggregateAnswer & { truncated: boolean }> {
    const nowUs = this.#clock.nowUs();
    const sizeUs = definition.sizeMs * 1000;
    // Devices may be ahead by five minutes; what they open early shows when its time comes.
    const range = (lookBackUs: number) => ({ window: definition.name, fromUs: Math.max(0, nowUs - lookBackUs), toUs: nowUs + sizeUs });
    const query = { ...filter, limit: ROWS_MAX, after: null };
    const answer = await this.#services.query.aggregates({ ...query, ...range(awayUs + Math.max(2 * sizeUs, LOOK_BACK_US_MIN)) });
    if (answer.next === null) return { ...answer, truncated: false };
    // More rows than an event may have: the newest window alone, since rows come oldest first.
    return { ...(await this.#services.query.aggregates({ ...query, ...range(sizeUs) })), truncated: true };
  }

  async #take(channel: Channel, answer: AggregateAnswer & { truncated: boolean }, readUs: number): Promise<void> {
    const rows = new Map<string, LiveRow>();
    const version = channel.version + 1;
    for (let from = 0; from < answer.rows.length; from += SLICE_ROWS) {
      if (from > 0) await nextTurn();
      const slice = answer.rows.slice(from, from + SLICE_ROWS);
      windowRowTexts(slice, channel.filter.functions).forEach((json, index) => {
        const key = rowKey(slice[index]);
        const known = channel.rows.get(key);
        rows.set(key, known?.json === json ? known : { json, version });
      });
    }
    channel.rows = rows;
    channel.version = version;
    channel.readUs = readUs;
    channel.head = headOf(channel.definition, answer);
  }

  async #refreshGateways(): Promise<void> {
    const answer = gatewaysAnswer(await this.#services.engine.status(), this.#services);
    const json = JSON.stringify({
      hub: answer.hub,
      rows: answer.rows.slice(0, GATEWAYS_MAX),
      truncated: answer.rows.length > GATEWAYS_MAX,
    });
    // The time alone is no news.
    this.#gateways = { json, time: answer.time, version: this.#gateways.version + Number(json !== this.#gateways.json) };
  }

  // --- a client ------------------------------------------------------------------------------------------------------

  /** What the client has not seen; waits until there is something, or until a proxy would think the stream dead. */
  async #nextText(client: LiveClient): Promise<string> {
    const sinceUs = this.#clock.monotonicUs();
    while (!client.isOver) {
      const text = this.#unseen(client);
      if (text !== '') return text;
      if (this.#clock.monotonicUs() - sinceUs >= HEARTBEAT_US) return ': heartbeat\n\n';
      await new Promise<void>((resolve) => {
        client.wake = resolve;
      });
      client.wake = null;
    }
    return '';
  }

  #unseen(client: LiveClient): string {
    const { channel } = client;
    // Until what it missed has been read, nothing newer may move the id past it.
    if (client.sinceUs !== null || (channel.version === 0 && channel.problem === null)) return '';
    const alerts = this.#unseenAlerts(client);
    let text = client.catchUp ?? '';
    client.catchUp = null;
    if (channel.problem !== null && channel.problem !== client.sentProblem) text += `event: problem\ndata: ${channel.problem}\n\n`;
    client.sentProblem = channel.problem;
    const rows: string[] = [];
    for (const { json, version } of channel.rows.values()) if (version > client.sentVersion) rows.push(json);
    // The first event comes without rows as well: it says that the stream lives.
    if (rows.length > 0 || (client.sentVersion === 0 && channel.version > 0)) text += windowEvent(channel.readUs, channel.head, rows);
    client.sentVersion = channel.version;
    if (this.#gateways.version > client.sentGateways) {
      text += `event: gateways\ndata: {"time":"${this.#gateways.time}",${this.#gateways.json.slice(1)}\n\n`;
      client.sentGateways = this.#gateways.version;
    }
    return alerts + text;
  }

  /**
   * Without an id: that of the windows is the time to go on from, and says what of the alerts is still to be told. They go before it:
   * who is cut off between the two is told them again.
   */
  #unseenAlerts(client: LiveClient): string {
    const { book } = this.#services.alerts;
    const { sentAlerts, alertsSinceUs } = client;
    if (sentAlerts === book.version) return '';
    const isFirst = sentAlerts === null;
    client.sentAlerts = book.version;
    const fits = alertMatcher(client.channel.filter);
    const changed = (isFirst ? book.holding(alertsSinceUs) : book.changedSince(sentAlerts)).filter(fits).sort(compareAlerts);
    // The first event comes without rows as well: nothing is wrong.
    if (changed.length === 0 && !isFirst) return '';
    const rows = changed.slice(0, ALERTS_MAX).map(renderAlert);
    const time = formatTime(this.#clock.nowUs());
    const isTruncated = changed.length > rows.length;
    return `event: alerts\ndata: ${JSON.stringify({ time, alerts_version: book.version, whole: isFirst, truncated: isTruncated, rows })}\n\n`;
  }
}

function windowEvent(readUs: number, head: string, rows: readonly string[]): string {
  return `event: window\nid: ${readUs}\ndata: {${head},"rows":[${rows.join(',')}]}\n\n`;
}

/** Members of the event besides the rows. */
function headOf(definition: WindowDefinition, answer: AggregateAnswer & { truncated: boolean }): string {
  const { aggregatesVersion, readingsVersion, overlayComplete, waitingFor, truncated } = answer;
  const head = {
    window: definition.name,
    aggregates_version: aggregatesVersion,
    readings_version: readingsVersion,
    overlay_complete: overlayComplete,
    waiting_for: waitingFor,
    truncated,
  };
  return JSON.stringify(head).slice(1, -1);
}

function rowKey({ windowStartUs, gateway, device, metric, tags }: AggregateRow): string {
  return [windowStartUs, gateway, device, metric, tags].join('\u0000');
}
