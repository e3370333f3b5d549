/** Requests to the gateway of which nothing is stored, and what the answer is. */
import { gzipSync } from 'node:zlib';

export interface BadRequest {
  readonly name: string;
  readonly path: string;
  readonly body?: string | Uint8Array;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly status: number;
  readonly code: string;
}

export const json = { 'content-type': 'application/json' };
const bomb = gzipSync(Buffer.alloc(256 * 1024 * 1024));
const READING = '{"device":"bad-http","a":1}';
export const BAD_REQUESTS: readonly BadRequest[] = [
  { name: 'no body', path: '/v1/readings', body: '', status: 400, code: 'ERR_DECODE_SYNTAX' },
  { name: 'JSON cut short', path: '/v1/readings', body: '{"device":"x","a":', status: 400, code: 'ERR_DECODE_SYNTAX' },
  { name: 'NaN', path: '/v1/readings', body: '{"device":"x","a":NaN}', status: 400, code: 'ERR_DECODE_SYNTAX' },
  { name: 'a number beyond doubles', path: '/v1/readings', body: '{"device":"x","a":1e999}', status: 400, code: 'ERR_DECODE_VALUE' },
  { name: 'no device', path: '/v1/readings', body: '{"a":1}', status: 400, code: 'ERR_DECODE_DEVICE' },
  { name: 'a device that is a number list', path: '/v1/readings', body: '{"device":[1],"a":1}', status: 400, code: 'ERR_DECODE_DEVICE' },
  { name: 'a word', path: '/v1/readings', body: '"warm"', status: 400, code: 'ERR_DECODE_SHAPE' },
  {
    name: '50,000 nested objects',
    path: '/v1/readings?device=x',
    body: `${'{"a":'.repeat(5e4)}1${'}'.repeat(5e4)}`,
    status: 400,
    code: 'ERR_DECODE_TOO_DEEP',
  },
  { name: 'a device of 300 bytes', path: `/v1/readings?device=${'d'.repeat(300)}`, body: '{"a":1}', status: 400, code: 'ERR_DECODE_NAME' },
  {
    name: 'SenML as XML',
    path: '/v1/readings',
    body: '<x/>',
    headers: { 'content-type': 'application/senml+xml' },
    status: 415,
    code: 'ERR_HTTP_UNSUPPORTED_MEDIA',
  },
  {
    name: 'an unknown content encoding',
    path: '/v1/readings',
    body: READING,
    headers: { ...json, 'content-encoding': 'zstd' },
    status: 415,
    code: 'ERR_HTTP_UNSUPPORTED_MEDIA',
  },
  {
    name: 'gzip that is none',
    path: '/v1/readings',
    body: READING,
    headers: { ...json, 'content-encoding': 'gzip' },
    status: 400,
    code: 'ERR_HTTP_PARAMETER',
  },
  {
    name: 'gzip cut short',
    path: '/v1/readings',
    body: gzipSync(READING).subarray(0, 20),
    headers: { ...json, 'content-encoding': 'gzip' },
    status: 400,
    code: 'ERR_HTTP_PARAMETER',
  },
  {
    name: 'a gzip bomb of 256 MiB',
    path: '/v1/readings',
    body: bomb,
    headers: { ...json, 'content-encoding': 'gzip' },
    status: 413,
    code: 'ERR_HTTP_BODY_TOO_LARGE',
  },
  {
    name: 'MessagePack that announces 4 GiB',
    path: '/v1/readings',
    body: Uint8Array.of(0xdd, 255, 255, 255, 255),
    headers: { 'content-type': 'application/msgpack' },
    status: 400,
    code: 'ERR_DECODE_SYNTAX',
  },
  {
    name: 'an Idempotency-Key of 2,000 characters',
    path: '/v1/readings',
    body: READING,
    headers: { ...json, 'idempotency-key': 'k'.repeat(2_000) },
    status: 400,
    code: 'ERR_HTTP_PARAMETER',
  },
  {
    name: 'a page of another site',
    path: '/v1/readings',
    body: READING,
    headers: { ...json, origin: 'https://example.org' },
    status: 403,
    code: 'ERR_HTTP_FORBIDDEN',
  },
  { name: 'GET where there is only POST', path: '/v1/readings', method: 'GET', status: 405, code: 'ERR_HTTP_METHOD' },
  { name: 'a path of nothing', path: '/v1/nothing', body: '', status: 404, code: 'ERR_HTTP_NOT_FOUND' },
  { name: 'a path upwards', path: '/..%2f..%2fetc/passwd', method: 'GET', status: 404, code: 'ERR_HTTP_NOT_FOUND' },
];
export const BAD_LINES: readonly Pick<BadRequest, 'name' | 'path' | 'body' | 'headers' | 'status'>[] = [
  { name: 'no line protocol', path: '/write', body: '{"a":1}', status: 400 },
  { name: 'a line with NaN', path: '/write', body: 'cpu,host=x usage=NaN', status: 400 },
  { name: 'a line without device', path: '/api/v2/write', body: 'cpu usage=1', status: 400 },
  { name: 'an unknown precision', path: '/api/v2/write?precision=fortnight', body: 'cpu,host=x usage=1', status: 400 },
  { name: 'the precision __proto__', path: '/write?precision=__proto__', body: 'cpu,host=x usage=1', status: 400 },
  { name: 'lines that are not UTF-8', path: '/write', body: Buffer.from('cpu,host=\xff usage=1', 'latin1'), status: 400 },
  { name: 'a gzip bomb of 256 MiB', path: '/write', body: bomb, headers: { 'content-encoding': 'gzip' }, status: 413 },
];
