/** Receivers of notifications, as the configuration has them. */
import { z } from 'zod';
import { RULE_NAME_PATTERN, SEVERITIES } from './rule.ts';

const RECEIVERS_MAX = 16;
const HEADERS_MAX = 16;
/** Of an Alertmanager: it forgets what is not repeated. */
const ALERTMANAGER_REPEAT_MS = 60_000;
/** Of a webhook: what Alertmanager has as repeat_interval. */
const WEBHOOK_REPEAT_MS = 4 * 3_600_000;

const headerMap = z
  .record(z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/, 'not a name of an HTTP header'), z.string().max(4_096))
  .refine((headers) => Object.keys(headers).length <= HEADERS_MAX, `at most ${HEADERS_MAX} headers are allowed`)
  .default({});

const receiverSchema = z
  .strictObject({
    name: z.string().regex(RULE_NAME_PATTERN, 'a name is 1 to 64 letters, digits, ., _ or -, and begins with a letter or digit'),
    kind: z.enum(['alertmanager', 'webhook']),
    url: z.url({ protocol: /^https?$/, error: 'has to be a URL with http:// or https://' }).max(2_048),
    headers: headerMap,
    /** Values are paths: read before each request, so that a secret may change. */
    headerFiles: headerMap,
    /** Values are names of environment variables. */
    headerEnv: headerMap,
    sendResolved: z.boolean().default(true),
    repeatIntervalMs: z
      .int()
      .min(1_000)
      .max(7 * 86_400_000)
      .optional(),
    timeoutMs: z.int().min(100).max(120_000).default(10_000),
    severities: z.array(z.enum(SEVERITIES)).min(1).optional(),
    rules: z.array(z.string().min(1).max(256)).min(1).max(100).optional(),
  })
  .transform((receiver) => ({
    ...receiver,
    repeatIntervalMs: receiver.repeatIntervalMs ?? (receiver.kind === 'alertmanager' ? ALERTMANAGER_REPEAT_MS : WEBHOOK_REPEAT_MS),
  }));

export type Receiver = z.output<typeof receiverSchema>;

export const receiversSchema = z
  .array(receiverSchema)
  .max(RECEIVERS_MAX)
  .refine((receivers) => new Set(receivers.map(({ name }) => name)).size === receivers.length, 'two receivers have the same name');
