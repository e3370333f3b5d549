import { expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { createLogger } from '../../shared/logging.ts';
import { Decoder } from '../decode/decoder.ts';
import { DEFAULT_TOPIC_RULES } from '../decode/topic-rules.ts';
import { createIngestCounters } from '../ingest-counters.ts';
import { MemoryJournal } from './memory-journal.ts';
import { PublishGate, type PublishedMessage, type Sender } from './publish-gate.ts';

/** aedes' callbacks answer here, nothing is written directly. */
const NO_WRITER = { acknowledge: () => undefined, flush: () => undefined };

function setUp(): { journal: MemoryJournal; gate: PublishGate; sender: Sender } {
  const journal = new MemoryJournal();
  journal.automatic = false;
  const decoder = new Decoder(DEFAULT_TOPIC_RULES, journal.series);
  const gate = new PublishGate({
    decoder,
    journal,
    clock: systemClock,
    counters: createIngestCounters(),
    logger: createLogger('test', 'silent'),
  });
  return { journal, gate, sender: { clientId: 'a', onlyDevice: null, order: gate.openOrder(NO_WRITER) } };
}

function message(topic: string, payload: Buffer, messageId: number): PublishedMessage {
  return { topic, payload, qos: 1, dup: false, messageId };
}

test('messages that wait behind a held ack are bounded in number, whether the journal knows them or not', () => {
  const { journal, gate, sender } = setUp();
  const errors: (Error | null)[] = [];
  gate.publish(sender, message('devices/d1/a', Buffer.from('1'), 1), (error) => errors.push(error));
  for (let id = 2; id <= 65_535; id++) gate.publish(sender, message('no/rule/for/it', Buffer.from('1'), id), (error) => errors.push(error));
  expect(errors).toHaveLength(0);
  gate.publish(sender, message('no/rule/for/it', Buffer.from('1'), 1), (error) => errors.push(error));
  expect(errors).toMatchObject([{ code: 'ERR_BROKER_TOO_MANY' }]);
  journal.commit();
  expect(errors).toHaveLength(65_536);
  expect(errors.slice(1).every((error) => error === null)).toBe(true);
  expect(gate.pending).toBe(0);
});

test('they are bounded in bytes over all clients', () => {
  const { journal, gate } = setUp();
  const payload = Buffer.alloc(1024 * 1024);
  const errors: (Error | null)[] = [];
  for (let client = 0; client < 100; client++) {
    const sender = { clientId: `c${client}`, onlyDevice: null, order: gate.openOrder(NO_WRITER) };
    gate.publish(sender, message('devices/d1/a', Buffer.from('1'), 1), (error) => errors.push(error));
    gate.publish(sender, message('no/rule/for/it', payload, 2), (error) => errors.push(error));
  }
  expect(errors.length).toBeGreaterThan(30);
  expect(errors.every((error) => error?.message.includes('bytes of all wait'))).toBe(true);
  journal.commit();
  expect(gate.pending).toBe(0);
});

test('a drain waits for what is pending, refuses what comes, and ends at its deadline', async () => {
  const { journal, gate, sender } = setUp();
  const answers: unknown[] = [];
  gate.publish(sender, message('devices/d1/a', Buffer.from('1'), 1), (error) => answers.push(error));
  const drained = gate.drain(60_000).then(() => answers.push('drained'));
  gate.publish(sender, message('devices/d1/a', Buffer.from('1'), 2), (error) => answers.push((error as { code?: string }).code));
  expect(answers).toEqual(['ERR_BROKER_STOPPING']);
  journal.commit();
  await drained;
  expect(answers).toEqual(['ERR_BROKER_STOPPING', null, 'drained']);
});
