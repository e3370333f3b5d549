/**
 * Pages of other origins (CORS): those that the operator names may ask, nobody else.
 *
 * Constraints: origins are named one by one, never `*`: without read tokens every page in the browser of somebody who sits at
 * the hub's machine could read otherwise. No credentials of the browser's own (cookies): a page sends its bearer token itself.
 */
import { cors } from 'hono/cors';
import type { HubApp } from './service.ts';

/** A browser may keep the answer to its preflight for so long; Chrome keeps none for longer than two hours. */
const PREFLIGHT_SECONDS = 600;

export function mountCrossOrigin(app: HubApp, origins: readonly string[]): void {
  if (origins.length === 0) return;
  const handler = cors({
    origin: [...origins],
    allowMethods: ['GET', 'HEAD', 'POST', 'PUT', 'DELETE'],
    allowHeaders: ['Authorization', 'Content-Type', 'If-None-Match', 'Last-Event-ID'],
    exposeHeaders: ['ETag', 'Link', 'Retry-After', 'Sluice-Warning', 'X-Sluice-Rows'],
    maxAge: PREFLIGHT_SECONDS,
  });
  for (const path of ['/v1/*', '/api/*', '/openapi.json']) app.use(path, handler);
}
