/**
 * Alerts under SIGKILL of hub and gateway: devices whose level goes up and down by a plan, a rule over short windows, a reader of
 * the stream that comes back with `Last-Event-ID`.
 *
 * Held against the plan: `/v1/alerts` has each rise once, with its times; the stream has told each of them, resolved where it is.
 */
import { createParser } from 'eventsource-parser';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fetchJson, until } from '../../e2e/processes.ts';
import { compareAlerts, expectedAlerts, ToldAlerts, type AlertRow, type ExpectedAlert, type LevelReading } from '../alert-ledger.ts';
import type { Scenario } from '../scenario.ts';
import type { Finding } from '../finding.ts';
import type { Trial } from '../trial.ts';

const DEVICES = Array.from({ length: 6 }, (_, index) => `alarm-${index + 1}`);
const RULE = 'level-high';
const BOUND = 50;
const WINDOW_MS = 5_000;
/** Windows that the level stays up, and down. */
const WINDOWS_PER_LEVEL = 2;
const READING_EVERY_MS = 500;
/** A gateway may be away for so long before anything is late; what is late by less than five windows more is judged again. */
const LATENESS_MS = 20_000;
/** What comes later than this is in no alert (docs/alerts.md), so nothing could be judged by the plan. */
const LATE_MS_MAX = LATENESS_MS + 4 * WINDOW_MS;
/** The usual ones, which `verify` asks for, and one that is short enough to see many of. */
const WINDOWS = [
  { name: '10s', size: '10s', persisted: false },
  { name: '1m', size: '1m' },
  { name: '1h', size: '1h' },
  { name: '1m_by_metric', size: '1m', by: 'metric' },
  { name: '5s', size: '5s' },
];
const VICTIMS = ['hub', 'hub', 'hub', 'gateway', 'both'] as const;
const JUDGE_MS_MAX = 90_000;
const CONTROL_JUDGE_MS_MAX = 20_000;
const POLL_MS = 500;

/** Sends levels by plan; what was not acknowledged is sent again under its key until it is. */
class LevelFeed {
  readonly sent = new Map<string, LevelReading[]>(DEVICES.map((device) => [device, []]));
  /** From a reading's time to its acknowledgement, the longest. */
  latestMs = 0;
  readonly #gatewayUrl: string;
  readonly #stop = new AbortController();
  readonly #done: Promise<unknown>;

  constructor(gatewayUrl: string) {
    this.#gatewayUrl = gatewayUrl;
    this.#done = Promise.all(DEVICES.map((device, index) => this.#run(device, index)));
  }

  async #run(device: string, index: number): Promise<void> {
    for (let timeMs = Date.now(); !this.#stop.signal.aborted; timeMs += READING_EVERY_MS) {
      while (Date.now() < timeMs) await sleep(timeMs - Date.now());
      const isHigh = Math.floor((Math.floor(timeMs / WINDOW_MS) + index) / WINDOWS_PER_LEVEL) % 2 === 0;
      const reading = { timeMs, level: isHigh ? 80 + index : 20 + index };
      while (!(await this.#post(device, reading))) await sleep(100);
      this.sent.get(device)?.push(reading);
      this.latestMs = Math.max(this.latestMs, Date.now() - timeMs);
    }
  }

  async #post(device: string, { timeMs, level }: LevelReading): Promise<boolean> {
    const headers = { 'content-type': 'application/json', 'idempotency-key': `${device}-${timeMs}` };
    const body = JSON.stringify({ level, ts: timeMs });
    const init = { method: 'POST', headers, body, signal: AbortSignal.timeout(5_000) };
    const answer = await fetch(`${this.#gatewayUrl}/v1/readings?device=${device}`, init).catch(() => null); // it is being killed
    await answer?.body?.cancel();
    return answer?.ok === true;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }
}

/** Follows the stream over every break, as an EventSource does. */
class StreamReader {
  readonly told = new ToldAlerts();
  connects = 0;
  readonly #url: string;
  readonly #abort = new AbortController();
  #lastEventId: string | null = null;

  constructor(hubUrl: string) {
    this.#url = `${hubUrl}/v1/stream?window=5s&device=${DEVICES.join(',')}`;
    void this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      try {
        await this.#follow();
      } catch {
        // The hub is away, or was killed in the middle of an event: what is whole of it has been taken.
      }
      await sleep(200);
    }
  }

  async #follow(): Promise<void> {
    const headers: Record<string, string> = this.#lastEventId === null ? {} : { 'last-event-id': this.#lastEventId };
    const { ok, body } = await fetch(this.#url, { headers, signal: this.#abort.signal });
    if (!ok || body === null) {
      await body?.cancel();
      return;
    }
    this.connects++;
    const parser = createParser({
      onEvent: ({ id, event, data }) => {
        if (id !== undefined) this.#lastEventId = id;
        if (event === 'alerts') for (const row of (JSON.parse(data) as { readonly rows: readonly AlertRow[] }).rows) this.told.take(row);
      },
    });
    const decoder = new TextDecoder();
    for await (const chunk of body) parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }));
  }

  stop(): void {
    this.#abort.abort();
  }
}

async function putRule(hubUrl: string): Promise<void> {
  const rule = { kind: 'threshold', window: '5s', function: 'max', device: DEVICES, metric: ['level'], above: BOUND };
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(`${hubUrl}/v1/alerts/rules/${RULE}`, { method: 'PUT', headers, body: JSON.stringify(rule) });
  if (!answer.ok) throw new Error(`the rule was refused: ${answer.status} ${await answer.text()}`);
}

async function alertsOf(hubUrl: string): Promise<AlertRow[]> {
  const rows: AlertRow[] = [];
  for (let cursor: string | null = ''; cursor !== null;) {
    const page: { readonly rows: readonly AlertRow[]; readonly next_cursor: string | null } = await fetchJson(
      `${hubUrl}/v1/alerts?rule=${RULE}&limit=1000${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`,
    );
    rows.push(...page.rows);
    cursor = page.next_cursor;
  }
  return rows;
}

function findingsOf(where: string, expected: ReadonlyMap<string, readonly ExpectedAlert[]>, rows: readonly AlertRow[]): Finding[] {
  const own = (name: string): AlertRow[] => rows.filter(({ device }) => device === name);
  return [...expected].map(([device, alerts]) => compareAlerts(where, device, alerts, own(device)));
}

const isMet = ({ lost, duplicated, invented }: Finding): boolean => lost + duplicated + invented === 0;

/** What is told and what is stored must become what was planned, in time; what is not by then is a violation. */
async function judge(trial: Trial, hubUrl: string, feed: LevelFeed, reader: StreamReader): Promise<void> {
  trial.measure('latest reading s', Math.round(feed.latestMs / 100) / 10);
  if (feed.latestMs > LATE_MS_MAX) {
    const late = `a reading was acknowledged after ${Math.round(feed.latestMs / 1000)} s`;
    return trial.violation(
      `alerts cannot be judged: ${late}, they take in what is at most ${LATE_MS_MAX / 1000} s late (machine too busy?)`,
    );
  }
  const expected = new Map([...feed.sent].map(([device, readings]) => [device, expectedAlerts(readings, WINDOW_MS, BOUND)]));
  const endMs = performance.now() + (trial.isControl ? CONTROL_JUDGE_MS_MAX : JUDGE_MS_MAX);
  for (;;) {
    const findings = [
      ...findingsOf('in /v1/alerts', expected, await alertsOf(hubUrl)),
      ...findingsOf('on the stream', expected, reader.told.rows()),
    ];
    if (!findings.every(isMet) && performance.now() < endMs) {
      await sleep(POLL_MS);
      continue;
    }
    for (const finding of findings) trial.found(finding);
    for (const text of reader.told.contradictions) trial.violation(`on the stream ${text}`);
    trial.measure(
      'alerts',
      [...expected.values()].reduce((sum, alerts) => sum + alerts.length, 0),
    );
    trial.measure('streams', reader.connects);
    return;
  }
}

/** Takes the alerts out of their log. What was evaluated stays known: forgotten altogether it would be evaluated again, to the same alerts. */
function forgetAlerts(lakeDir: string): void {
  const forgotten = { log: { alerts: [] }, snapshot: { active: [], history: [] } };
  for (const [folder, without] of Object.entries(forgotten)) {
    const directory = path.join(lakeDir, '_sluice', 'alerts', folder);
    if (!existsSync(directory)) continue;
    for (const name of readdirSync(directory).filter((file) => file.endsWith('.json'))) {
      const file = path.join(directory, name);
      writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as object), ...without }));
    }
  }
}

export const alerts: Scenario = {
  name: 'alerts',
  about: 'SIGKILL of hub and gateway while alerts fire and are resolved, read as a log and as a stream that is resumed',
  needs: [],
  announcedLoss: false,
  isCounted: true,
  control: { about: 'a hub that forgets at each start what it has alerted', needs: [] },
  async run(trial) {
    const hubArgs = ['--windows', JSON.stringify(WINDOWS), '--allowed-lateness-ms', String(LATENESS_MS)];
    const system = await trial.start({ devices: 10, hubArgs });
    const { gateway, hub } = system;
    await putRule(hub.url);
    const feed = new LevelFeed(gateway.httpUrl);
    const reader = new StreamReader(hub.url);
    trial.onClose(() => reader.stop());
    const isFiring = async (): Promise<true | null> => ((await alertsOf(hub.url)).length > 0 ? true : null);
    await until('the first alert', isFiring, JUDGE_MS_MAX);
    trial.faultsBegin();
    while (trial.goesOn) {
      const what = trial.isControl ? 'hub' : trial.random.pick(VICTIMS);
      const victims = what === 'both' ? [gateway.program, hub.program] : [what === 'gateway' ? gateway.program : hub.program];
      await Promise.all(victims.map((victim) => victim.kill()));
      trial.fault(`kill ${what}`);
      if (trial.isControl) forgetAlerts(trial.lab.lakeDir);
      await trial.pause(0, 500);
      await Promise.all(victims.map((victim) => victim.start()));
      await trial.pause(trial.isControl ? 4_000 : 0, 6_000);
    }
    await trial.recovered(gateway.httpUrl, hub.url);
    await feed.stop();
    await judge(trial, hub.url, feed, reader);
    await trial.settle(system);
  },
};
