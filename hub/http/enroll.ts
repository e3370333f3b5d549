/** POST /v1/enroll: a gateway exchanges its enrolment token for a valid credential of its own making. */
import { createRoute, z } from '@hono/zod-openapi';
import { SluiceError } from '../../shared/errors.ts';
import { VERSION } from '../../shared/version.ts';
import { bearerToken } from '../ingest/tokens.ts';
import { problemContent } from './problems.ts';
import type { HubApp, HubServices } from './service.ts';

const BODY_BYTES_MAX = 4_096;

const bodySchema = z
  .strictObject({ token_sha256: z.string().openapi({ description: 'SHA-256 of the token that the gateway made, hex' }) })
  .openapi('EnrollRequest');

const route = createRoute({
  method: 'post',
  path: '/v1/enroll',
  summary: 'Enrol a gateway, once, with an enrolment token',
  description: 'The gateway makes its token itself and sends the hash. The same hash may be sent again; another one is refused.',
  request: {
    query: z.strictObject({}),
    body: {
      required: true,
      content: {
        'application/json': { schema: bodySchema },
      },
    },
  },
  responses: {
    200: {
      description: 'The token is valid from now on',
      content: {
        'application/json': { schema: z.object({ gateway: z.string(), lake_id: z.string(), hub_version: z.string() }).openapi('Enrolled') },
      },
    },
    400: { description: 'Not a request to enrol', ...problemContent },
    401: { description: 'The enrolment token is unknown, used up or expired', ...problemContent },
    429: { description: 'Too many at a time', ...problemContent },
  },
});

/** Bytes by bytes: what a stranger sends is not collected beyond the bound. */
async function readBody(request: Request): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of (request.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += part.byteLength;
    if (bytes > BODY_BYTES_MAX) throw new SluiceError('ERR_HTTP_BODY_TOO_LARGE', `a request to enrol has at most ${BODY_BYTES_MAX} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

async function tokenHash(request: Request): Promise<string> {
  try {
    return bodySchema.parse(JSON.parse(await readBody(request))).token_sha256;
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw new SluiceError('ERR_ENROLL_REQUEST', 'the body has to be {"token_sha256": "64 hex digits"}', { cause });
  }
}

/** Before the guard of the readers: an enrolment token is no token for reading. */
export function mountEnroll(app: HubApp, { enrolments, tokens, engine, logger }: HubServices): void {
  app.openAPIRegistry.registerPath(route);
  app.post(route.path, async (c) => {
    const gateway = await enrolments.enroll(bearerToken(c.req.header('authorization')), await tokenHash(c.req.raw));
    // This hub knows it at once; the others look when they first meet it.
    await tokens.reload();
    const { lakeId } = await engine.status();
    logger.info({ gateway }, 'a gateway has enrolled');
    return c.json({ gateway, lake_id: lakeId, hub_version: VERSION }, 200);
  });
}
