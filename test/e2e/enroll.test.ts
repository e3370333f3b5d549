/** First contact as an operator has it: a token from the hub, one command at the gateway, readings in the lake. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { connectAsync } from 'mqtt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { createEnrolment } from '../../hub/ingest/enrolments.ts';
import { LocalStore } from '../../hub/lake/local-store.ts';
import { fetchJson, Lab, until } from './processes.ts';

const lab = new Lab();
let hubUrl = '';

beforeAll(async () => {
  hubUrl = (await lab.hub()).url;
});
afterAll(() => lab.close());

/** What `token create --enroll` makes, without a program for each. */
async function enrolmentToken(name: string): Promise<string> {
  const { token } = await createEnrolment(await LocalStore.open(lab.lakeDir), name, 3_600_000, systemClock, randomBytes);
  return token;
}

function enroll(dataDir: string, token: string): ReturnType<Lab['tryRun']> {
  return lab.tryRun('gateway/main.js', ['enroll', '--hub', hubUrl, '--token', token, '--data-dir', dataDir]);
}

test('a gateway that enrolled sends to its hub without another setting, under the name that the hub gave it', async () => {
  const token = (await lab.run('hub/main.js', ['token', 'create', '--enroll', 'site-1', '--quiet', '--lake-dir', lab.lakeDir])).trim();
  const dataDir = path.join(lab.directory, 'field');
  const enrolled = await enroll(dataDir, token);
  expect(enrolled).toMatchObject({ code: 0 });
  expect(statSync(path.join(dataDir, 'hub.json')).mode & 0o777).toBe(0o600);
  const gateway = await lab.gateway('field', null);
  const device = await connectAsync(`mqtt://127.0.0.1:${gateway.mqttPort}`);
  await device.publishAsync('devices/pump-7/telemetry', '{"temperature":21.5}', { qos: 1 });
  await device.endAsync();
  const row = await until('the reading in the hub', async () => {
    const { rows } = await fetchJson<{ rows: { gateway: string; value: number }[] }>(`${hubUrl}/v1/readings?device=pump-7&from=now-5m`);
    return rows[0] ?? null;
  });
  expect(row).toMatchObject({ gateway: 'site-1', value: 21.5 });
  // The same command again, as after a power cut that left no trace on the screen, changes nothing.
  const before = readFileSync(path.join(dataDir, 'hub.json'), 'utf8');
  expect(await enroll(dataDir, token)).toMatchObject({ code: 0 });
  expect(readFileSync(path.join(dataDir, 'hub.json'), 'utf8')).toBe(before);
  // A second machine with the same token is refused, and told when it was used.
  const second = await enroll(path.join(lab.directory, 'second'), token);
  expect(second.code).toBe(1);
  expect(second.stderr).toContain('ERR_ENROLL_TOKEN');
  expect(second.stderr).toContain('was used already');
});

test('a gateway that lost the answer of the hub gets it by the same command', async () => {
  const token = await enrolmentToken('site-2');
  const dataDir = path.join(lab.directory, 'cut');
  // The hub has taken the secret, and the machine lost power before the answer was kept.
  await lab.tryRun('gateway/main.js', ['enroll', '--hub', 'http://127.0.0.1:9', '--token', token, '--data-dir', dataDir]);
  const pending = JSON.parse(readFileSync(path.join(dataDir, 'hub.pending.json'), 'utf8')) as { token: string };
  const claimed = await fetch(`${hubUrl}/v1/enroll`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ token_sha256: createHash('sha256').update(pending.token).digest('hex') }),
  });
  expect(claimed.status).toBe(200);
  expect(await enroll(dataDir, token)).toMatchObject({ code: 0 });
  expect(JSON.parse(readFileSync(path.join(dataDir, 'hub.json'), 'utf8'))).toMatchObject({ gateway: 'site-2', token: pending.token });
  // Another enrolment does not take its place by accident.
  const other = await enroll(dataDir, await enrolmentToken('site-3'));
  expect(other.stderr).toContain('ERR_ENROLL_FILE');
});

test('what is no request to enrol is answered as such, and never with a secret or a 5xx', async () => {
  const token = await enrolmentToken('site-4');
  const ask = (body: string, authorization = `Bearer ${token}`): Promise<Response> =>
    fetch(`${hubUrl}/v1/enroll`, { method: 'POST', headers: { authorization, 'content-type': 'application/json' }, body });
  for (const body of ['', '{', '[]', '{"token_sha256":7}', '{"token_sha256":"../x"}', `{"token_sha256":"${'0'.repeat(64)}","more":1}`])
    expect((await ask(body)).status, body).toBe(400);
  expect((await ask('x'.repeat(10_000))).status).toBe(413);
  expect((await ask(`{"token_sha256":"${'0'.repeat(64)}"}`, 'Bearer sle_nobody')).status).toBe(401);
});

test('the doctor of an enrolled gateway finds its hub and its credential, and says what to do where one is wrong', async () => {
  const dataDir = path.join(lab.directory, 'patient');
  expect(await enroll(dataDir, await enrolmentToken('site-5'))).toMatchObject({ code: 0 });
  const flags = ['doctor', '--json', '--data-dir', dataDir, '--mqtt-port', '0', '--mqtt-ws-port', 'null', '--http-port', '0'];
  type Report = { checks: { name: string; result: string; advice: string | null }[] };
  const checkOf = async (name: string): Promise<Report['checks'][number] | undefined> => {
    const { stdout } = await lab.tryRun('gateway/main.js', flags);
    return (JSON.parse(stdout) as Report).checks.find((check) => check.name === name);
  };
  expect(await checkOf('hub credential')).toMatchObject({ result: 'ok' });
  const file = path.join(dataDir, 'hub.json');
  const identity = JSON.parse(readFileSync(file, 'utf8')) as { token: string };
  writeFileSync(file, JSON.stringify({ ...identity, token: `slc_${'A'.repeat(22)}` }), { mode: 0o600 });
  expect(await checkOf('hub credential')).toMatchObject({ result: 'fail', advice: expect.stringContaining('enroll') as string });
});
