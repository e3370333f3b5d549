/** GET /v1/stream: server-sent events (WHATWG HTML, 9.2) of windows, alerts and gateways as they change. */
import { createRoute, z } from '@hono/zod-openapi';
import { usualDefinitions, type WindowDefinition } from '../../shared/window/definition.ts';
import { LiveFeed } from './live-feed.ts';
import { choiceParameter } from './parameters.ts';
import { PROBLEM_RESPONSES } from './problems.ts';
import type { HubApp, HubServices } from './service.ts';
import { definitionNamed, windowFilter, windowFilterParameters } from './window-rows.ts';

function route(definitions: readonly WindowDefinition[]) {
  return createRoute({
    method: 'get',
    path: '/v1/stream',
    summary: 'Live windows, alerts and gateways, as server-sent events',
    description: [
      'Once a second, what changed since: `event: window` with {window, aggregates_version, readings_version, overlay_complete, waiting_for, truncated, rows}',
      '(rows as in /v1/aggregates, of the windows of the last 30 s or two window sizes), `event: gateways` with {time, hub, rows, truncated} as in /v1/gateways,',
      '`event: alerts` with {time, alerts_version, whole, truncated, rows} as in /v1/alerts: first those that hold (`whole`), then those that changed,',
      '`event: problem` while the windows cannot be read. The first events are the state as it is. A client that reads slowly gets fewer, newer events.',
      'Streams end after ten minutes at the latest; connect again with the `Last-Event-ID` that you had: within an hour the first event has',
      'every window since, and alerts that ended since, at any hub of the lake; `truncated`: they were more than 2000 rows, ask /v1/aggregates.',
    ].join(' '),
    request: {
      headers: z.object({
        'last-event-id': z.string().optional().openapi({ description: '`id` of the last event that was seen: goes on from there' }),
      }),
      query: z.strictObject({
        window: choiceParameter(
          definitions.map(({ name }) => name) as [string, ...string[]],
          'Name of a window; default: the shortest by series',
        ),
        ...windowFilterParameters,
      }),
    },
    responses: { 200: { description: 'The stream', content: { 'text/event-stream': { schema: z.string() } } }, ...PROBLEM_RESPONSES },
  });
}

const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store, no-transform',
  // nginx buffers answers unless it is told not to.
  'x-accel-buffering': 'no',
};

function shortestBySeries(definitions: readonly WindowDefinition[]): WindowDefinition {
  return [...usualDefinitions(definitions)].sort((a, b) => a.sizeMs - b.sizeMs)[0];
}

/** null: none, or not one of ours: the stream begins as for a first visitor, as the standard wants it. */
function lastEventUs(id: string | undefined): number | null {
  return id !== undefined && /^[0-9]{1,16}$/.test(id) ? Number(id) : null;
}

export function mountStream(app: HubApp, services: HubServices): void {
  const { definitions } = services.engine;
  const feed = new LiveFeed(services);
  app.openapi(route(definitions), (c) => {
    const query = c.req.valid('query');
    const definition = query.window === undefined ? shortestBySeries(definitions) : definitionNamed(definitions, query.window);
    const filter = windowFilter(query, definition);
    // A stream that nobody reads would hold a place until it is found to be stalled.
    if (c.req.method === 'HEAD') return c.body(null, 200, STREAM_HEADERS);
    return c.body(
      feed.subscribe(definition, filter, () => c.env?.outgoing?.destroy(), lastEventUs(c.req.header('last-event-id'))),
      200,
      STREAM_HEADERS,
    );
  });
}
