/** What the HTTP API is given: the other parts of the hub, as far as it knows them. */
import type { OpenAPIHono } from '@hono/zod-openapi';
import type { HttpBindings } from '@hono/node-server';
import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/logging.ts';
import type { Alerts } from '../alerts/alerts.ts';
import type { Notifier } from '../alerts/notifier.ts';
import type { QueryEngine } from '../engine-api.ts';
import type { GatewayRegistry } from '../ingest/gateways.ts';
import type { Enrolments } from '../ingest/enrolments.ts';
import type { TokenRegistry } from '../ingest/tokens.ts';
import type { UplinkServerState } from '../ingest/uplink-server.ts';
import type { MaintenanceClient } from '../maintenance-client.ts';
import type { HubMetrics } from '../metrics.ts';
import type { QueryService } from '../query/query-service.ts';
import type { Releases } from '../release.ts';
import type { SqlService } from '../query/sql-service.ts';

export interface HubServices {
  readonly engine: Pick<QueryEngine, 'definitions' | 'status'>;
  readonly query: Pick<QueryService, 'aggregates' | 'aggregatesDocument' | 'readings' | 'exceptions' | 'series' | 'devices' | 'promql'>;
  readonly sql: Pick<SqlService, 'query'>;
  readonly alerts: Pick<Alerts, 'book' | 'rules' | 'rule' | 'putRule' | 'deleteRule' | 'list' | 'figures'>;
  readonly notifier: Pick<Notifier, 'figures'>;
  readonly releases: Pick<Releases, 'release'>;
  readonly gateways: Pick<GatewayRegistry, 'list'>;
  readonly uplink: { readonly state: UplinkServerState };
  readonly tokens: Pick<TokenRegistry, 'hasReaders' | 'verify' | 'reload'>;
  readonly enrolments: Pick<Enrolments, 'enroll'>;
  /** How the tables of the lake are, and the last runs of their maintenance. */
  readonly maintenance: Pick<MaintenanceClient, 'status'>;
  readonly metrics: HubMetrics;
  readonly clock: Clock;
  readonly logger: Logger;
  /** false: the hub is stopping. */
  readonly isReady: () => boolean;
  /** Folder of the page's files; by default the one that the build makes. */
  readonly webDir?: string;
  /** Whose pages may ask from a browser, besides the hub's own; by default none. */
  readonly corsOrigins?: readonly string[];
}

/** `incoming` is absent where a test asks the app without a socket. */
export interface HubEnv {
  Bindings: Partial<HttpBindings>;
}
export type HubApp = OpenAPIHono<HubEnv>;
