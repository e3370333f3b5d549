import { expect, test } from 'vitest';
import { SluiceError } from './errors.ts';
import { problemResponse } from './problem.ts';

test('a typed error becomes problem+json with its status, code and message', async () => {
  const response = problemResponse(new SluiceError('ERR_HTTP_PARAMETER', 'limit is 5000, at most 1000'), { parameter: 'limit' });
  expect(response.status).toBe(400);
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  expect(await response.json()).toMatchObject({
    code: 'ERR_HTTP_PARAMETER',
    detail: 'limit is 5000, at most 1000',
    status: 400,
    retryable: false,
    parameter: 'limit',
  });
});

test('an unexpected error tells a stranger nothing of its inside', async () => {
  const response = problemResponse(new Error('secret path /etc/shadow'));
  expect(response.status).toBe(500);
  expect(await response.text()).not.toContain('secret');
});
