/**
 * Prometheus remote write 1.0: what its senders expect of an answer. 2xx: durable. 5xx: send it again, for ever and in order,
 * so that nothing else of that sender comes through. 4xx: drop it and go on. A fault that will not go away is therefore 400.
 *
 * A request of which some series cannot be used is answered 400 after the others are durable, as the specification has it.
 */
import { SluiceError, isSluiceError } from '../../shared/errors.ts';
import { problemOf } from '../../shared/problem.ts';
import type { IngestAnswer } from './ingest.ts';

const HEADERS = { 'x-prometheus-remote-write-version': '0.1.0' };

/** @throws SluiceError ERR_HTTP_UNSUPPORTED_MEDIA: also for version 2, so that its senders fall back to version 1 */
export function requireRemoteWrite(contentType: string | undefined): void {
  const [type, ...parameters] = (contentType ?? 'application/x-protobuf').split(';').map((part) => part.trim().toLowerCase());
  const proto = parameters.find((parameter) => parameter.startsWith('proto='))?.slice('proto='.length) ?? 'prometheus.writerequest';
  if (type !== 'application/x-protobuf' || proto !== 'prometheus.writerequest')
    throw new SluiceError(
      'ERR_HTTP_UNSUPPORTED_MEDIA',
      `content type ${JSON.stringify((contentType ?? '').slice(0, 100))}; application/x-protobuf with prometheus.WriteRequest (remote write 1.0) is understood`,
    );
}

/** Text: senders write the start of it into their log. */
export function remoteWriteError(error: unknown): Response {
  const { status, detail } = problemOf(error);
  const lasting = isSluiceError(error) && !error.kind.retryable && status >= 500;
  const retryAfter: Record<string, string> = status === 503 ? { 'retry-after': '1' } : {};
  return new Response(`${detail}\n`, { status: lasting ? 400 : status, headers: { ...HEADERS, ...retryAfter } });
}

export function remoteWriteAnswer(answer: IngestAnswer): Response {
  if (answer.rejectedCount === 0) return new Response(null, { status: 204, headers: HEADERS });
  const first = answer.rejected[0];
  return new Response(
    `${answer.accepted} samples are stored; ${answer.rejectedCount} are not: ${first?.message ?? ''} [${first?.code ?? ''}]\n`.slice(
      0,
      1_000,
    ),
    { status: 400, headers: HEADERS },
  );
}
