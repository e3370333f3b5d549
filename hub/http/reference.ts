/** /openapi.json: the routes as their schemas describe them, in the groups that the reference page shows. */
import type { HubApp } from './service.ts';
import { VERSION } from '../../shared/version.ts';

/** A token, or none where the hub has none. */
const SECURITY: Record<string, string[]>[] = [{ bearer: [] }, {}];

export const OPENAPI_INFO = {
  openapi: '3.1.0',
  info: {
    title: 'Sluice hub',
    version: VERSION,
    description:
      "Windowed aggregates, readings and exceptions of a lake. Times are RFC 3339 in UTC; errors are problem+json (RFC 9457). Prometheus' query API is at /api/v1 (docs/promql.md).",
    license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
  },
  security: SECURITY,
};

/** In the order of the page. The first whose beginning a path has is its group. */
const GROUPS = [
  { name: 'Data', description: 'What was measured', paths: ['/v1/aggregates', '/v1/readings', '/v1/series', '/v1/devices', '/v1/windows'] },
  { name: 'SQL and live', description: 'One SELECT over a snapshot; events as they happen', paths: ['/v1/sql', '/v1/stream'] },
  { name: 'Exceptions', description: 'What is not in the readings, and why', paths: ['/v1/exceptions'] },
  { name: 'Alerts', description: 'What is watched, and what fires', paths: ['/v1/alerts'] },
  { name: 'Fleet and lake', description: 'How gateways and tables are', paths: ['/v1/gateways', '/v1/tables', '/v1/enroll'] },
] as const;

/** @throws Error for a route that no group has: a new one is put into one */
function groupOf(path: string): string {
  const group = GROUPS.find(({ paths }) => paths.some((start) => path === start || path.startsWith(`${start}/`)));
  if (group === undefined) throw new Error(`${path} is in no group of the reference`);
  return group.name;
}

export function mountReference(app: HubApp): void {
  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    description: 'sluice-hub token create --read',
  });
  app.get('/openapi.json', (c) => {
    const document = app.getOpenAPI31Document(OPENAPI_INFO);
    const paths = Object.fromEntries(
      Object.entries(document.paths ?? {}).map(([path, methods]) => [
        path,
        Object.fromEntries(
          Object.entries(methods).map(([method, operation]) => [method, { tags: [groupOf(path)], ...(operation as object) }]),
        ),
      ]),
    );
    return c.json({ ...document, tags: GROUPS.map(({ name, description }) => ({ name, description })), paths });
  });
}
