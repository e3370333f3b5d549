import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { connectAsync, type MqttClient } from 'mqtt';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { createLogger } from '../../shared/logging.ts';
import { MemoryJournal } from '../broker/memory-journal.ts';
import { Decoder } from '../decode/decoder.ts';
import { topicRuleSchema } from '../decode/topic-rules.ts';
import { createIngestCounters } from '../ingest-counters.ts';
import { MessageTap } from '../tail/message-tap.ts';
import { Mosquitto, mosquittoMissing } from './mosquitto.fixture.ts';
import { MqttSource } from './mqtt-source.ts';
import { mqttSourceSchema } from './mqtt-settings.ts';

const MAIN = fileURLToPath(new URL('../../dist/gateway/main.js', import.meta.url));

if (mosquittoMissing) console.log('mosquitto is not installed: the tests of MQTT sources are skipped');

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

describe.skipIf(mosquittoMissing)('a source at a mosquitto', () => {
  let broker: Mosquitto;
  let publisher: MqttClient;
  let dataDir: string;
  let journal: MemoryJournal;
  let source: MqttSource | null = null;
  let sessions = 0;
  let child: ChildProcess | null = null;

  beforeAll(async () => {
    broker = await Mosquitto.start();
    publisher = await connectAsync(broker.url, { reconnectPeriod: 50 });
    publisher.on('error', () => undefined);
  });
  afterAll(async () => {
    await publisher.endAsync(true);
    await broker.close();
  });
  beforeEach(() => {
    dataDir = mkdtempSync(path.join(tmpdir(), 'sluice-source-'));
    journal = new MemoryJournal();
    sessions++;
  });
  afterEach(async () => {
    journal.automatic = true;
    journal.commit();
    await source?.stop(100);
    source = null;
    child?.kill('SIGKILL');
    child = null;
    rmSync(dataDir, { recursive: true, force: true });
  });

  /** Topics of their own for each test: what one retains must not reach the next. */
  const topic = (device: string): string => `t${sessions}/${device}`;

  function make(into: MemoryJournal, settings: Record<string, unknown> = {}): MqttSource {
    source = new MqttSource({
      settings: mqttSourceSchema.parse({
        name: `s${sessions}`,
        url: broker.url,
        topics: [topic('+')],
        retryDelayMsMin: 10,
        retryDelayMsMax: 100,
        ...settings,
      }),
      packetBytesMax: 65_536,
      decoder: new Decoder([topicRuleSchema.parse({ match: '+/{device}' })], into.series),
      journal: into,
      clock: systemClock,
      random: Math.random,
      counters: createIngestCounters(),
      logger: createLogger('test', 'silent'),
      tap: new MessageTap(into.series, systemClock),
      dataDir,
    });
    return source;
  }

  async function start(into: MemoryJournal = journal): Promise<MqttSource> {
    const started = make(into);
    await until(() => started.status().state === 'connected');
    return started;
  }

  test('acknowledges after the commit and not before, many messages per commit', async () => {
    const first = await start();
    journal.automatic = false;
    for (let index = 0; index < 150; index++) publisher.publish(topic('d1'), `{"v":${index},"ts":${1700000000000 + index}}`, { qos: 1 });
    await until(() => journal.uncommitted === 150);
    expect(first.status().inFlight).toBe(150);
    // Gone without a commit: the broker still has all of them.
    await first.stop(1);
    const other = new MemoryJournal();
    await start(other);
    await until(() => other.readings.length === 150);
    expect(other.readings.map(({ value }) => value)).toEqual(Array.from({ length: 150 }, (_, index) => index));
    await until(() => source?.status().inFlight === 0);
    await source?.stop(1_000);
    // Acknowledged: a third session gets nothing but what is new.
    const third = new MemoryJournal();
    await start(third);
    publisher.publish(topic('d1'), '{"v":-1}', { qos: 1 });
    await until(() => third.readings.length > 0);
    expect(third.readings.map(({ value }) => value)).toEqual([-1]);
  });

  test('a journal that refuses costs a reconnect, never a message', async () => {
    const started = await start();
    journal.automatic = false;
    publisher.publish(topic('d1'), '{"v":1}', { qos: 1 });
    await until(() => journal.uncommitted === 1);
    journal.commit(new SluiceError('ERR_JOURNAL_UNAVAILABLE', 'the disk is full'));
    await until(() => journal.uncommitted === 1);
    journal.commit();
    expect(journal.readings.map(({ value }) => value)).toEqual([1]);
    expect(started.status()).toMatchObject({ connections: 2, lastError: 'the disk is full' });
  });

  test('a message that can never be stored is a dead letter and does not stand in the way of others', async () => {
    await start();
    journal.automatic = false;
    publisher.publish(topic('d1'), '{"v":1}', { qos: 1 });
    await until(() => journal.uncommitted === 1);
    journal.commit(new SluiceError('ERR_JOURNAL_MESSAGE', 'too large'));
    journal.automatic = true;
    publisher.publish(topic('d1'), '{"v":2}', { qos: 1 });
    journal.commit();
    await until(() => journal.readings.length === 1);
    expect(journal.readings.map(({ value }) => value)).toEqual([2]);
    expect(journal.exceptions).toMatchObject([{ kind: 'dead_letter', reason: 'source_message: too large' }]);
  });

  test('retained messages count with a newer event time of their own, once', async () => {
    await publisher.publishAsync(topic('stampless'), '{"v":1}', { qos: 1, retain: true });
    await publisher.publishAsync(topic('stamped'), '{"v":2,"ts":1700000000000}', { qos: 1, retain: true });
    const started = await start();
    await until(() => journal.readings.length === 1 && started.status().retainedIgnored === 1);
    expect(journal.readings).toMatchObject([{ device: 'stamped', value: 2 }]);
    await started.stop(100);
    // The broker loses the session: the retained messages come again, and one is news.
    await broker.kill();
    await broker.run();
    await until(() => publisher.connected);
    await publisher.publishAsync(topic('stamped'), '{"v":2,"ts":1700000000000}', { qos: 1, retain: true });
    await publisher.publishAsync(topic('later'), `{"v":3,"ts":${Date.now() + 1_000}}`, { qos: 1, retain: true });
    await start();
    await until(() => journal.readings.length === 2);
    expect(journal.readings).toMatchObject([{ device: 'stamped' }, { device: 'later', value: 3 }]);
    expect(source?.status().retainedIgnored).toBe(1);
  });

  test('a packet larger than allowed ends the connection before it is collected', async () => {
    const started = await start();
    await publisher.publishAsync(topic('d1'), Buffer.alloc(100_000, 0x20), { qos: 0 });
    await until(() => started.status().lastError !== null);
    expect(started.status().lastError).toContain('65536');
  });

  test('speaks TLS with a CA of its own, a certificate and a password from files, and says what is wrong with them', async () => {
    const directory = dataDir;
    const run = (program: string, ...args: string[]): void => void execFileSync(program, args, { cwd: directory, stdio: 'ignore' });
    const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2', '-nodes'];
    run(
      'openssl',
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-keyout',
      'key.pem',
      '-out',
      'cert.pem',
      ...subject,
    );
    const at = (name: string): string => path.join(directory, name);
    run('mosquitto_passwd', '-b', '-c', at('users'), 'plant', 'secret');
    const secure = await Mosquitto.start(() => [
      'allow_anonymous false',
      `password_file ${at('users')}`,
      `certfile ${at('cert.pem')}`,
      `keyfile ${at('key.pem')}`,
      `cafile ${at('cert.pem')}`,
      'require_certificate true',
    ]);
    try {
      writeFileSync(at('password'), 'secret\n');
      const tls = { username: 'plant', passwordFile: at('password'), certFile: at('cert.pem'), keyFile: at('key.pem') };
      const url = secure.url.replace('mqtt:', 'mqtts:');
      const untrusted = make(journal, { url, ...tls });
      await until(() => untrusted.status().lastError !== null);
      expect(untrusted.status().lastError).toContain('self-signed');
      await untrusted.stop(100);
      const trusted = make(journal, { url, ...tls, caFile: at('cert.pem') });
      await until(() => trusted.status().state === 'connected');
      await trusted.stop(100);
      writeFileSync(at('password'), 'wrong');
      const wrong = make(journal, { url, ...tls, caFile: at('cert.pem') });
      await until(() => wrong.status().lastError !== null);
      expect(wrong.status().lastError).toMatch(/not authori[sz]ed|Bad username/i);
    } finally {
      await source?.stop(100);
      await secure.close();
    }
  });

  test('kill -9 of the gateway under load loses and doubles nothing', { timeout: 120_000 }, async () => {
    const config = path.join(dataDir, 'gateway.yaml');
    writeFileSync(
      config,
      JSON.stringify({
        dataDir: path.join(dataDir, 'data'),
        mqtt: { port: 0, wsPort: null },
        http: { port: 0 },
        hostMetrics: { enabled: false },
        topics: [{ match: '+/{device}' }],
        sources: { mqtt: [{ name: 'plant', url: broker.url, topics: [topic('+')], retryDelayMsMin: 10 }] },
      }),
    );
    const run = async (): Promise<number> => {
      const gateway = spawn('node', [MAIN, '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
      child = gateway;
      for await (const line of createInterface({ input: gateway.stderr })) {
        if (line.includes('gateway is ready')) return (JSON.parse(line) as { httpPort: number }).httpPort;
      }
      throw new Error('the gateway ended');
    };
    interface Status {
      readonly sources: readonly { readonly state: string }[];
      readonly backlog: { readonly readings: number };
    }
    const status = async (port: number): Promise<Status> => (await (await fetch(`http://127.0.0.1:${port}/v1/status`)).json()) as Status;
    let port = await run();
    await until(async () => (await status(port)).sources[0].state === 'connected');
    const startMs = Date.now() - 100_000;
    let sent = 0;
    let sending = true;
    const sender = (async () => {
      while (sending) {
        for (let index = 0; index < 20; index++, sent++)
          publisher.publish(topic(`d${sent % 7}`), `{"v":${sent},"ts":${startMs + sent}}`, { qos: 1 });
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    })();
    const before = (await status(port)).backlog.readings;
    await until(async () => (await status(port)).backlog.readings > before + 100);
    const victim = child as unknown as ChildProcess;
    const gone = new Promise((resolve) => victim.once('exit', resolve));
    victim.kill('SIGKILL');
    await gone;
    port = await run();
    sending = false;
    await sender;
    await until(async () => (await status(port)).backlog.readings >= sent);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect((await status(port)).backlog.readings).toBe(sent);
  });
});
