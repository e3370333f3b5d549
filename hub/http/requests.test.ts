import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ApiFixture, problemOf } from './app.fixture.ts';

let api: ApiFixture;
beforeAll(async () => {
  api = await ApiFixture.start();
  await api.fill();
});
afterAll(() => api.stop());

describe('a wrong request', () => {
  test('is told every wrong parameter at once, with what would be right', async () => {
    const response = await api.get('/v1/aggregates?window=5m&limit=0&form=csv&from=yesterday&functions=median');
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    const problem = await problemOf(response);
    expect(problem).toMatchObject({ status: 400, code: 'ERR_HTTP_PARAMETER' });
    expect(problem.errors?.map(({ parameter }) => parameter).sort()).toEqual(['form', 'from', 'functions', 'limit', 'window']);
    for (const hint of ['1m_by_metric', 'from 1 to 10000', 'RFC 3339', 'stddev', 'cursor', 'did you mean from?'])
      expect(problem.detail).toContain(hint);
  });

  test.each([
    ['/v1/aggregates?from=now&to=now-1h', 'from'],
    ['/v1/aggregates?window=1m_by_metric&device=a', 'device'],
    ['/v1/aggregates?window=1m_by_metric&gateway=a', 'gateway'],
    ['/v1/aggregates?metric=', 'metric'],
    ['/v1/aggregates?limit=10001', 'limit'],
    ['/v1/aggregates?limit=1&limit=2', 'limit'],
    ['/v1/aggregates?cursor=x', 'cursor'],
    [`/v1/aggregates?cursor=${Buffer.from('["w","5m",0,1,0,1,""]').toString('base64url')}&to=now`, 'window'],
    [`/v1/aggregates?window=1h&cursor=${Buffer.from('["w","1m",0,1,0,1,""]').toString('base64url')}`, 'cursor'],
    [`/v1/readings?cursor=${Buffer.from('["w","1m",1,1,""]').toString('base64url')}`, 'cursor'],
    ['/v1/readings?order=up', 'order'],
    ['/v1/exceptions?kind=gap,lost', 'kind'],
    ['/v1/series?window=1m', 'window'],
    ['/v1/gateways?x=1', 'x'],
    ['/v1/stream?window=1m_by_metric&device=a', 'device'],
  ])('%s names the parameter', async (path, parameter) => {
    const response = await api.get(path);
    expect(response.status).toBe(400);
    expect((await problemOf(response)).errors?.[0]?.parameter).toBe(parameter);
  });

  test('with names, lists or functions beyond their bounds names the parameter', async () => {
    const bounds: [path: string, parameter: string][] = [
      [`/v1/aggregates?metric=${'x'.repeat(257)}`, 'metric'],
      [`/v1/aggregates?metric=${Array.from({ length: 1_001 }, (_, index) => index).join()}`, 'metric'],
      [`/v1/aggregates?functions=${Array.from({ length: 33 }, (_, index) => `p${index}`).join()}`, 'functions'],
    ];
    for (const [path, parameter] of bounds)
      expect(await problemOf(await api.get(path))).toMatchObject({ status: 400, errors: [{ parameter }] });
  });

  test('to nowhere, or with a method that changes things, is refused as such', async () => {
    expect((await problemOf(await api.get('/v1/agregates'))).detail).toContain('did you mean /v1/aggregates?');
    expect((await problemOf(await api.get('/v1/nothing'))).code).toBe('ERR_HTTP_NOT_FOUND');
    expect((await problemOf(await api.get('/v1/aggregates/'))).code).toBe('ERR_HTTP_NOT_FOUND');
    const post = await api.app.request('/v1/aggregates', { method: 'POST' });
    expect(post.headers.get('allow')).toBe('GET, HEAD');
    expect((await problemOf(post)).code).toBe('ERR_HTTP_METHOD');
    expect((await api.app.request('/v1/aggregates', { method: 'HEAD' })).status).toBe(200);
  });

  test('of any kind never gives a 5xx', async () => {
    const names = ['window', 'from', 'to', 'device', 'metric', 'gateway', 'functions', 'limit', 'cursor', 'format', 'order', 'kind', 'x'];
    const cursor = fc.json().map((text) => Buffer.from(text).toString('base64url'));
    const readingCursor = fc
      .tuple(
        fc.maxSafeNat(),
        fc.maxSafeNat(),
        fc.integer(),
        fc.string(),
        fc.string(),
        fc.string(),
        fc.string({ unit: 'binary' }),
        fc.string(),
        fc.string(),
        fc.nat(),
        fc.nat(),
      )
      .map((parts) => Buffer.from(JSON.stringify(['r', ...parts])).toString('base64url'));
    const windowCursor = fc
      .tuple(
        fc.constantFrom('1m', '10s', ''),
        fc.maxSafeNat(),
        fc.maxSafeNat(),
        fc.maxSafeNat(),
        fc.maxSafeNat(),
        fc.string({ unit: 'binary' }),
      )
      .map((parts) => Buffer.from(JSON.stringify(['w', ...parts])).toString('base64url'));
    const value = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string(),
      fc.constantFrom(
        '1m',
        '1h',
        '10s',
        'now',
        'now-1h',
        '0',
        '2200-01-01',
        '1',
        '10000',
        'csv',
        'desc',
        'gap',
        'temperature',
        'p50',
        "'",
        '\u0000',
        '\\',
        '\\,',
        ',',
      ),
      fc.integer().map(String),
      cursor,
      readingCursor,
      windowCursor,
    );
    const query = fc.array(fc.tuple(fc.constantFrom(...names), value), { maxLength: 4 });
    const path = fc.constantFrom(
      '/v1/aggregates',
      '/v1/readings',
      '/v1/exceptions',
      '/v1/series',
      '/v1/devices',
      '/v1/windows',
      '/v1/gateways',
    );
    const statuses = new Map<number, number>();
    await fc.assert(
      fc.asyncProperty(path, query, async (route, pairs) => {
        const search = pairs.map(([name, text]) => `${name}=${encodeURIComponent(text)}`).join('&');
        const response = await api.get(`${route}?${search}`);
        const text = await response.text();
        expect(response.status, `${search}: ${text.slice(0, 500)}`).toBeLessThan(500);
        statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
      }),
      { numRuns: 200 },
    );
    // Some got through to a query, others were refused: otherwise this would prove nothing.
    expect(statuses.get(200)).toBeGreaterThan(20);
    expect(statuses.get(400)).toBeGreaterThan(20);
  });

  test('with broken escapes never gives a 5xx', async () => {
    for (const search of [
      'metric=%',
      'metric=%zz',
      'metric=%ff%fe',
      '%00=1',
      '&&&',
      '=',
      'metric',
      'metric=%00',
      'cursor=%00',
      '__proto__=1',
      'constructor=1',
    ]) {
      expect((await api.get(`/v1/aggregates?${search}`)).status, search).toBeLessThan(500);
    }
  });
});
