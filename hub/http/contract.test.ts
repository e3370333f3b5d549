/**
 * Requests made from the OpenAPI document, good and bad, against a hub with data: no answer that the document does not list.
 *
 * SLUICE_CONTRACT_SECONDS (npm run contract: 300) is how long it tries; a failure prints the seed and the smallest request.
 */
import { Ajv2020 } from 'ajv/dist/2020.js';
import ajvFormats from 'ajv-formats';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ApiFixture, START_US } from './app.fixture.ts';

type Json = Readonly<Record<string, unknown>>;

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly schema: Json;
}

interface Operation {
  readonly path: string;
  readonly method: string;
  readonly parameters: readonly Parameter[];
  readonly body: Json | null;
  readonly example: unknown;
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, { readonly schema: Json }>> }>>;
}

interface AskedFor {
  readonly operation: Operation;
  /** Of a rule, where the path has one. */
  readonly name: string;
  readonly query: readonly (readonly [string, string])[];
  readonly accept: string | null;
  readonly body: string | null;
  readonly contentType: string;
}

const SECONDS = Number(process.env['SLUICE_CONTRACT_SECONDS'] ?? 3);

let api: ApiFixture;
let document: Json & { readonly paths: Readonly<Record<string, Readonly<Record<string, Json>>>> };
const cursors: string[] = [];
const ids: string[] = [];

beforeAll(async () => {
  api = await ApiFixture.start();
  await api.fill();
  await api.commit('gw-3', START_US, 3, 1, [
    {
      kind: 'quarantined',
      device: 'pump-1',
      metric: 'temperature',
      fromUs: START_US,
      toUs: START_US + 1,
      readingCount: 1,
      reason: 'event_time_too_old',
      payload: Buffer.from(
        JSON.stringify({ device: 'pump-1', metric: 'temperature', tags: '', readings: [{ ts: START_US, value: 1, text: null }] }),
      ),
    },
  ]);
  for (const name of ['kept', 'gone'])
    await api.app.request(`/v1/alerts/rules/${name}`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ kind: 'threshold', window: '1m', above: 1 }),
    });
  document = await api.json('/openapi.json');
  for (const list of ['aggregates', 'readings', 'exceptions', 'series', 'devices']) {
    const page = await api.json<{ next_cursor: string | null; rows: { id?: string }[] }>(
      `/v1/${list}?limit=1${/ag|re|ex/.test(list) ? '&from=2026-11-22' : ''}`,
    );
    if (page.next_cursor !== null) cursors.push(page.next_cursor);
  }
  for (const { id } of (await api.json<{ rows: { id: string }[] }>('/v1/exceptions?from=2026-11-22')).rows) ids.push(id);
});
afterAll(() => api.stop());

function operations(): Operation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): Operation => {
      const content = (operation['requestBody'] as { content?: Record<string, { schema: Json; example?: unknown }> } | undefined)?.content;
      const json = content?.['application/json'];
      return {
        path,
        method: method.toUpperCase(),
        parameters: (operation['parameters'] ?? []) as Parameter[],
        body: json?.schema ?? null,
        example: json?.example,
        responses: operation['responses'] as Operation['responses'],
      };
    }),
  );
}

function resolve(schema: Json): Json {
  const reference = schema['$ref'];
  if (typeof reference !== 'string') return schema;
  return reference
    .slice(2)
    .split('/')
    .reduce<unknown>((value, key) => (value as Json)[key], document) as Json;
}

const TIMES = ['now', 'now-1h', '-2h', '2026-11-22', '2026-11-22T12:00:00Z', String(START_US), '1795348800', '2026-11-22T12:01:00+01:00'];
const WORDS = [
  '1m',
  '1h',
  '10s',
  '1m_by_metric',
  'pump-1',
  'pump*',
  '*',
  'temperature',
  'gw-1',
  'site:a',
  'metric',
  'tag:site',
  'count',
  'p99',
  'stddev',
  'gap',
  '5m',
  '90s',
];
const STATEMENTS = [
  'SELECT * FROM readings LIMIT 3',
  'SELECT window_name, count(*) FROM aggregates WHERE window_start > now() - INTERVAL 400 DAY GROUP BY ALL',
  'EXPLAIN SELECT * FROM devices',
  'SELECT * FROM exceptions',
  'SELECT $1, $2',
  'SELECT $a',
  "SELECT 1/0, [1], {a: 1}, DATE '2026-01-01', INTERVAL 1 DAY, 1e400, NULL, true",
  "SELECT * FROM read_csv('/etc/passwd')",
  'DROP TABLE readings',
  'SELECT',
  '',
  '\u0000',
];

/** A value of the schema's kind, more or less. */
function arbitrary(schema: Json, name: string): fc.Arbitrary<unknown> {
  const {
    type,
    enum: choices,
    properties,
    items,
    anyOf,
    oneOf,
  } = resolve(schema) as Json & { properties?: Record<string, Json>; items?: Json; anyOf?: Json[]; oneOf?: Json[] };
  const alternatives = anyOf ?? oneOf;
  if (alternatives !== undefined) return fc.oneof(...alternatives.map((inner) => arbitrary(inner, name)));
  if (Array.isArray(choices)) return fc.constantFrom(...(choices as unknown[]));
  if (name === 'cursor') return fc.constantFrom(...cursors, 'x', '');
  if (name === 'id') return fc.constantFrom(...ids, 'x', 'gw-1/0/live/1/0');
  if (name === 'sql') return fc.constantFrom(...STATEMENTS);
  if (type === 'integer')
    return fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 400 }) }, { weight: 1, arbitrary: fc.integer() });
  if (type === 'number') return fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.integer({ min: -4000, max: 4000 }));
  if (type === 'boolean') return fc.boolean();
  if (type === 'array') return fc.array(items === undefined ? fc.constantFrom(...WORDS) : arbitrary(items, name), { maxLength: 3 });
  if (type === 'object' && properties !== undefined)
    return fc.record(Object.fromEntries(Object.entries(properties).map(([key, inner]) => [key, arbitrary(inner, key)])), {
      requiredKeys: ['sql', 'id', 'kind', 'window', 'for', 'condition'].filter((key) => key in properties),
    });
  if (type === 'object') return fc.dictionary(fc.constantFrom('a', 'b'), fc.oneof(fc.integer(), fc.string()));
  const text = /time|from|to|start/i.test(name) ? TIMES : WORDS;
  return fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...text) },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 20 }) },
  );
}

function request(): fc.Arbitrary<AskedFor> {
  return fc.constantFrom(...operations()).chain((operation) => {
    const names = operation.parameters
      .filter(({ in: place }) => place === 'query')
      .map(({ name, schema }) =>
        fc
          .oneof(
            { weight: 60, arbitrary: fc.constant(undefined) },
            { weight: 20, arbitrary: arbitrary(schema, name) },
            { weight: 1, arbitrary: fc.constantFrom(...WORDS, '') },
          )
          .map((value): [string, string][] =>
            value === undefined ? [] : [[name, Array.isArray(value) ? value.join(',') : (value as string)]],
          ),
      );
    const extra = fc.oneof(
      { weight: 40, arbitrary: fc.constant(null) },
      { weight: 1, arbitrary: fc.constant<[string, string]>(['unknown', '1']) },
    );
    const body =
      operation.body === null
        ? fc.constant(null)
        : fc.oneof(
            { weight: 12, arbitrary: arbitrary(operation.body, '').map((value) => JSON.stringify(value)) },
            { weight: 1, arbitrary: fc.json() },
            { weight: 1, arbitrary: fc.string() },
          );
    return fc.record({
      operation: fc.constant(operation),
      name: fc.constantFrom(...(operation.method === 'DELETE' ? [] : ['kept']), 'gone', 'r1', '-', 'ä', '%'),
      query: fc.tuple(fc.tuple(...names), extra).map(([pairs, unknown]) => [...pairs.flat(), ...(unknown === null ? [] : [unknown])]),
      accept: fc.constantFrom(
        null,
        null,
        'text/csv',
        'application/json',
        'application/vnd.apache.arrow.stream',
        'application/vnd.apache.parquet;q=0.9',
        'text/html',
        'x',
      ),
      body,
      contentType: fc.constantFrom('application/json', 'application/json', 'application/json', 'text/plain'),
    });
  });
}

async function send({ operation, name, query, accept, body, contentType }: AskedFor): Promise<Response> {
  const search = query.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
  return api.app.request(`${operation.path.replace('{name}', encodeURIComponent(name))}?${search}`, {
    method: operation.method,
    headers: { ...(accept === null ? {} : { accept }), ...(body === null ? {} : { 'content-type': contentType }) },
    ...(body === null ? {} : { body }),
  });
}

test('what the reference shows as examples is answered when it is sent as it stands', async () => {
  const exampleOf = (schema: Json): unknown => schema['example'] ?? resolve(schema)['example'];
  let asked = 0;
  for (const { path, method, parameters, example, responses } of operations()) {
    const isSent = method === 'GET' || example !== undefined;
    if (!isSent || path === '/v1/stream') continue;
    const query = parameters.filter((parameter) => parameter.in === 'query' && exampleOf(parameter.schema) !== undefined);
    const search = new URLSearchParams(query.map(({ name, schema }): [string, string] => [name, String(exampleOf(schema))]));
    const response = await api.app.request(`${path.replace('{name}', 'kept')}?${String(search)}`, {
      method,
      ...(example === undefined ? {} : { body: JSON.stringify(example), headers: { 'content-type': 'application/json' } }),
    });
    expect([200, 201], `${method} ${path} ${String(search)}: ${await response.text()}`).toContain(response.status);
    expect(Object.keys(responses)).toContain(String(response.status));
    asked++;
  }
  expect(asked).toBeGreaterThan(12);
});

test(
  'every answer is one that the OpenAPI document lists',
  async () => {
    const ajv = new Ajv2020({ strict: false, allErrors: true });
    ajvFormats.default(ajv);
    ajv.addSchema({ $id: 'hub', ...document });
    const pointer = (...keys: string[]): string =>
      `hub#/${keys.map((key) => encodeURIComponent(key.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')}`;
    const seen = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(request(), async (asked) => {
        const { operation } = asked;
        const response = await send(asked);
        const status = String(response.status);
        const listed = operation.responses[status];
        const type = (response.headers.get('content-type') ?? '').split(';')[0];
        if (type === 'text/event-stream') await response.body?.cancel();
        const text = type === 'text/event-stream' ? '' : await response.text();
        const what = `${operation.method} ${operation.path} answered ${status} ${type}: ${text.slice(0, 500)}`;
        expect(response.status, what).toBeLessThan(500);
        expect(listed, what).toBeDefined();
        if (type !== '') expect(Object.keys(listed.content ?? {}), what).toContain(type);
        if (type.endsWith('json') && type !== 'application/x-ndjson') {
          const validate = ajv.getSchema(
            pointer('paths', operation.path, operation.method.toLowerCase(), 'responses', status, 'content', type, 'schema'),
          );
          expect(validate, what).toBeDefined();
          void validate?.(JSON.parse(text));
          expect(validate?.errors ?? [], what).toEqual([]);
        }
        const key = `${operation.method} ${operation.path} ${status.replace('204', '200')}`;
        seen.set(key, (seen.get(key) ?? 0) + 1);
      }),
      {
        numRuns: 1_000_000,
        interruptAfterTimeLimit: SECONDS * 1000,
        markInterruptAsFailure: false,
        // Whatever the time allows, every route has answered the plainest request.
        examples: operations().map((operation): [AskedFor] => [
          { operation, name: operation.method === 'DELETE' ? 'gone' : 'kept', query: [], accept: null, body: null, contentType: '' },
        ]),
      },
    );
    // It is no proof of anything if nothing was answered well.
    for (const operation of operations())
      if (operation.body === null) expect(seen.get(`${operation.method} ${operation.path} 200`) ?? 0, operation.path).toBeGreaterThan(0);
  },
  SECONDS * 1000 + 60_000,
);
