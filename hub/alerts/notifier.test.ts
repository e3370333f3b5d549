import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ManualClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import { MemoryStore, type StoreFault } from '../lake/memory-store.ts';
import type { Alert } from './alert.ts';
import { AlertLog } from './alert-log.ts';
import { Notifier, type NotifierParts } from './notifier.ts';
import { postJson } from './post-json.ts';
import { receiversSchema } from './receiver.ts';

const START_US = Date.UTC(2026, 10, 22, 12) * 1000;
const SECOND_US = 1_000_000;

interface Told {
  readonly status: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly startsAt: string;
  readonly endsAt: string;
}

type Mood = 'up' | 'down' | 'deaf' | 'picky';

/** A receiver over which the test decides: `deaf` takes a request and its answer is lost, `picky` refuses device d1. */
class World {
  readonly clock = new ManualClock(START_US);
  readonly store = new MemoryStore(this.clock);
  mood: Mood = 'up';
  readonly requests: { url: string; headers: Readonly<Record<string, string>>; alerts: readonly Told[]; body: unknown }[] = [];
  log!: AlertLog;
  #hubs = 0;

  static async open(): Promise<World> {
    const world = new World();
    world.log = await world.openLog();
    return world;
  }

  openLog(): Promise<AlertLog> {
    return AlertLog.open(this.store.client(), 'rules', () => undefined);
  }

  hub(receiver: object = {}, log = this.log, fault: () => StoreFault | null = () => null, parts: Partial<NotifierParts> = {}): Notifier {
    return new Notifier({
      alerts: log,
      store: this.store.client((operation) => (operation === 'putIfAbsent' ? fault() : null)),
      receivers: receiversSchema.parse([{ name: 'people', kind: 'webhook', url: 'http://people.example/hook', ...receiver }]),
      externalUrl: null,
      hubInstance: `hub-${++this.#hubs}`,
      clock: this.clock,
      logger: createLogger('test', 'silent'),
      env: {},
      random: () => 0.5,
      post: (url, body, headers) => this.#receive(url, body, headers),
      ...parts,
    });
  }

  async #receive(url: string, text: string, headers: Readonly<Record<string, string>>) {
    const body = JSON.parse(text) as readonly Told[] | { readonly alerts: readonly Told[] };
    const alerts = 'alerts' in body ? body.alerts : body;
    await nextTurn(); // another hub may come in between
    if (this.mood === 'down') return { status: 503, text: 'not now', retryAfterMs: null };
    if (this.mood === 'picky' && alerts.some(({ labels }) => labels.device === 'd1'))
      return { status: 400, text: 'not d1', retryAfterMs: null };
    this.requests.push({ url, headers, alerts, body });
    if (this.mood === 'deaf') throw new Error('the connection was cut');
    return { status: 200, text: '', retryAfterMs: null };
  }

  async change(state: Alert['state'], device: string): Promise<void> {
    this.clock.advance(SECOND_US);
    const { book } = this.log;
    const own = [...book.activeOf('hot').values()].find((alert) => alert.device === device);
    if (own?.state === state || (state === 'resolved' && own === undefined)) return;
    const version = book.version + 1;
    const updatedUs = this.log.nextUs(this.clock.nowUs());
    const begun: Alert = own ?? {
      ...{
        id: `${version}-0`,
        rule: 'hot',
        severity: 'warning',
        summary: 'too hot',
        condition: 'mean of 1m above 80',
        labels: { team: 'a' },
      },
      ...{ gateway: 'g', device, metric: 'm', tags: '{"site":"x","severity":"odd"}', state, cause: 'window', value: 90.25, window: '1m' },
      ...{
        windowStartUs: START_US - 60e6,
        windowEndUs: START_US,
        sinceUs: START_US - 60e6,
        firedUs: null,
        resolvedUs: null,
        updatedUs,
        version,
      },
    };
    const times = { firedUs: state === 'firing' ? updatedUs : begun.firedUs, resolvedUs: state === 'resolved' ? updatedUs : null };
    await this.log.append({ alerts: [{ ...begun, ...times, state, updatedUs, version }] }, this.clock.nowUs());
  }

  /** Of each device what the receiver was told, in order. */
  get told(): readonly string[] {
    return this.requests.flatMap(({ alerts }) => alerts.map(({ labels, status }) => `${labels.device} ${status}`));
  }

  async turns(seconds: number, ...hubs: readonly Notifier[]): Promise<void> {
    for (let second = 0; second < seconds; second++) {
      this.clock.advance(SECOND_US);
      await Promise.all(hubs.map((hub) => hub.turn()));
    }
  }
}

let world: World;
beforeEach(async () => {
  world = await World.open();
});

const folders: string[] = [];
afterEach(() => folders.splice(0).forEach((folder) => rmSync(folder, { recursive: true })));

test('a webhook is told in the words of Alertmanager what fires and what has ended, and nothing of what is pending', async () => {
  const hub = world.hub();
  await world.change('pending', 'd1');
  await world.turns(2, hub);
  expect(world.requests).toEqual([]);
  await world.change('firing', 'd1');
  await world.turns(2, hub);
  await world.change('resolved', 'd1');
  await world.turns(2, hub);
  expect(world.told).toEqual(['d1 firing', 'd1 resolved']);
  const labels = {
    alertname: 'hot',
    device: 'd1',
    exported_severity: 'odd',
    gateway: 'g',
    metric: 'm',
    severity: 'warning',
    site: 'x',
    team: 'a',
  };
  expect(world.requests[1].body).toMatchObject({
    version: '4',
    status: 'resolved',
    receiver: 'people',
    groupLabels: { alertname: 'hot' },
    commonLabels: labels,
    alerts: [{ labels, annotations: { summary: 'too hot', description: 'm of d1 of g, value 90.25, mean of 1m above 80' } }],
  });
});

test('an Alertmanager is told every minute of what fires, each time with an end that lies four minutes ahead', async () => {
  const hub = world.hub({ kind: 'alertmanager', url: 'http://am.example/' });
  await world.change('firing', 'd1');
  await world.turns(200, hub);
  expect(world.requests.length).toBeGreaterThanOrEqual(3);
  expect(world.requests.length).toBeLessThanOrEqual(5);
  const [first] = world.requests;
  expect(first.url).toBe('http://am.example/api/v2/alerts');
  expect(Date.parse(first.alerts[0].endsAt) * 1000).toBeGreaterThan(START_US + 240 * SECOND_US);
  await world.change('resolved', 'd1');
  await world.turns(1, hub);
  const last = world.requests.at(-1)?.alerts[0];
  expect(Date.parse(last?.endsAt ?? '') * 1000).toBeLessThanOrEqual(world.clock.nowUs());
  const { length } = world.requests;
  await world.turns(200, hub);
  expect(world.requests).toHaveLength(length);
});

test('a webhook hears again of what still fires after its interval, also across a restart', async () => {
  const receiver = { repeatIntervalMs: 3_600_000 };
  const hub = world.hub(receiver);
  await world.change('firing', 'd1');
  await world.turns(1_800, hub);
  expect(world.told).toEqual(['d1 firing']);
  await hub.stop();
  await world.turns(2_000, world.hub(receiver));
  expect(world.told).toEqual(['d1 firing', 'd1 firing']);
});

test('a receiver that is new is told what fires, not what has ended before it was there', async () => {
  await world.change('firing', 'd1');
  await world.change('firing', 'd2');
  await world.change('resolved', 'd1');
  const hub = world.hub();
  await world.turns(2, hub);
  expect(world.told).toEqual(['d2 firing']);
});

test('a receiver that was away is told how each alert stands, in the order of the changes', async () => {
  const hub = world.hub();
  await world.change('firing', 'd1');
  await world.turns(1, hub);
  world.mood = 'down';
  await world.change('firing', 'd2');
  await world.turns(100, hub);
  await world.change('resolved', 'd1');
  await world.change('firing', 'd3');
  await world.change('resolved', 'd2');
  await world.turns(10, hub);
  expect(hub.figures[0]).toMatchObject({ delivered: 1, waiting: 3, lastError: expect.stringContaining('503: not now') as unknown });
  expect(hub.figures[0].waitingSinceUs).not.toBeNull();
  world.mood = 'up';
  await world.turns(90, hub);
  expect(world.told.slice(1)).toEqual(['d1 resolved', 'd3 firing', 'd2 resolved']);
  expect(hub.figures[0]).toMatchObject({ waiting: 0, waitingSinceUs: null, lastError: null });
});

test('an alert that a receiver refuses holds back no other', async () => {
  world.mood = 'picky';
  const hub = world.hub();
  for (const device of ['d0', 'd1', 'd2']) await world.change('firing', device);
  await world.turns(2, hub);
  expect(world.told).toEqual(['d0 firing', 'd2 firing']);
  expect(hub.figures[0]).toMatchObject({ delivered: 2, refused: 1, failed: 0, waiting: 0 });
});

test('of two hubs one tells, and the other goes on when it is gone', async () => {
  const [a, b] = [world.hub(), world.hub()];
  for (let index = 0; index < 20; index++) {
    await world.change('firing', `d${index}`);
    await world.turns(2, b, a);
  }
  expect(world.told).toHaveLength(20);
  // The one that does not tell turns alone.
  await b.stop();
  await world.change('resolved', 'd3');
  await world.turns(2, a);
  await world.change('resolved', 'd4');
  const c = world.hub();
  await world.turns(20, c);
  expect(world.told.slice(20)).toEqual(['d3 resolved', 'd4 resolved']);
});

test('receivers hear only of the rules and severities that they are for', async () => {
  const [severe, other, own] = [
    world.hub({ name: 'a', severities: ['critical'] }),
    world.hub({ name: 'b', rules: ['cold*'] }),
    world.hub({ name: 'c', rules: ['h*'] }),
  ];
  await world.change('firing', 'd1');
  await world.turns(2, severe, other, own);
  expect(world.requests.map(({ body }) => (body as { receiver: string }).receiver)).toEqual(['c']);
});

test('headers come from the configuration, from files as they are now, and from the environment; a missing one is a failure', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-headers-'));
  folders.push(folder);
  const file = join(folder, 'secret');
  const receiver = { headers: { 'x-team': 'a' }, headerFiles: { authorization: file }, headerEnv: { 'x-key': 'KEY' } };
  const hub = world.hub(receiver, world.log, undefined, { env: { KEY: 'k' } });
  await world.change('firing', 'd1');
  await world.turns(2, hub);
  expect(hub.figures[0].lastError).toContain(file);
  writeFileSync(file, 'Bearer one\n');
  await world.turns(10, hub);
  expect(world.requests.map(({ headers }) => headers)).toEqual([{ 'x-team': 'a', authorization: 'Bearer one', 'x-key': 'k' }]);
});

test('a real server is told over HTTP; one that says nothing is left at the deadline', async () => {
  const bodies: string[] = [];
  let isSilent = true;
  const server = createServer((request, response) => {
    let text = '';
    const answers = !isSilent;
    request.on('data', (part: Buffer) => (text += part.toString()));
    request.on('end', () => {
      if (!answers) return;
      bodies.push(text);
      response.end('ok');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
    const hub = world.hub({ url, timeoutMs: 1_000 }, world.log, undefined, { post: postJson });
    await world.change('firing', 'd1');
    const seen = new Promise((resolve) => server.once('request', resolve));
    const turn = hub.turn();
    await seen;
    world.clock.advance(1_100_000);
    await turn;
    expect(hub.figures[0]).toMatchObject({ failed: 1, lastError: 'no answer within 1000 ms' });
    isSilent = false;
    await world.turns(2, hub);
    expect(bodies.map((body) => (JSON.parse(body) as { status: string }).status)).toEqual(['firing']);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

const action = fc.oneof(
  fc.record({
    kind: fc.constant('change' as const),
    state: fc.constantFrom('firing' as const, 'resolved' as const),
    device: fc.constantFrom('d1', 'd2', 'd3'),
  }),
  fc.record({ kind: fc.constant('turn' as const), hub: fc.nat(1), seconds: fc.nat(9) }),
  fc.record({ kind: fc.constant('restart' as const), hub: fc.nat(1), isKilled: fc.boolean() }),
  fc.record({ kind: fc.constant('receiver' as const), mood: fc.constantFrom<Mood>('up', 'down', 'deaf') }),
  fc.record({ kind: fc.constant('store' as const), fault: fc.constantFrom<StoreFault | null>('fail-before', 'fail-after', null) }),
);

test('whatever fails and whoever is killed, everybody is told how each alert ended up, and quiet follows', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 40, size: 'max' }), async (actions) => {
      world = await World.open();
      let fault: StoreFault | null = null;
      const logs = [world.log, await world.openLog()];
      const open = (hub: number): Notifier => world.hub({}, logs[hub], () => fault);
      const hubs = [open(0), open(1)];
      const firstUs = world.clock.nowUs();
      // They know of the receiver before anything happens.
      await world.change('firing', 'd0');
      await world.turns(30, hubs[0]);
      for (const step of actions) {
        if (step.kind === 'change') await world.change(step.state, step.device);
        else if (step.kind === 'receiver') world.mood = step.mood;
        else if (step.kind === 'store') fault = step.fault;
        else {
          await logs[1].refresh();
          if (step.kind === 'turn') await world.turns(step.seconds, hubs[step.hub]);
          else {
            if (!step.isKilled) await hubs[step.hub].stop();
            hubs[step.hub] = open(step.hub);
          }
        }
      }
      world.mood = 'up';
      fault = null;
      await logs[1].refresh();
      await world.turns(200, ...hubs);
      const last = new Map(
        world.requests.flatMap(({ alerts }) => alerts.map((alert) => [`${alert.labels.device} ${alert.startsAt}`, alert.status])),
      );
      const fired = [...world.log.book.alerts()].filter(({ firedUs, updatedUs }) => firedUs !== null && updatedUs > firstUs);
      for (const { device, firedUs, state } of fired)
        expect(last.get(`${device} ${new Date((firedUs ?? 0) / 1000).toISOString()}`)).toBe(state);
      const { length } = world.requests;
      await world.turns(100, ...hubs);
      expect(world.requests).toHaveLength(length);
    }),
    { numRuns: 25 },
  );
});
