/**
 * Configuration of a program: one zod schema gives defaults, ranges, environment names, flags and the reference page.
 *
 * Precedence, rising: default, YAML file, environment, flags. Key `uplink.sealIntervalMs` of the gateway is
 * `SLUICE_GATEWAY_UPLINK_SEAL_INTERVAL_MS` in the environment and `--uplink-seal-interval-ms` on the command line.
 * Unknown keys are refused; all errors are reported at once, each with its path, its origin and what would be right.
 */
import { readFileSync } from 'node:fs';
import { parse as parseYaml, YAMLParseError } from 'yaml';
import { z } from 'zod';
import { SluiceError, errorMessage } from './errors.ts';

export type ProgramName = 'gateway' | 'hub' | 'sim';

/** A scalar (or list of scalars) setting, as flags and environment variables reach it. */
export interface ConfigLeaf {
  /** Path in the YAML file: ['uplink', 'url']. */
  readonly path: readonly string[];
  readonly key: string;
  readonly env: string;
  readonly flag: string;
  readonly type: 'string' | 'number' | 'integer' | 'boolean' | 'array' | 'object';
  readonly description: string;
  readonly default: unknown;
  readonly constraint: string;
}

interface JsonSchema {
  type?: string;
  properties?: Record<string, JsonSchema>;
  description?: string;
  default?: unknown;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  enum?: unknown[];
  anyOf?: JsonSchema[];
  pattern?: string;
}

function words(name: string): string[] {
  return name.split(/(?=[A-Z])/).map((word) => word.toLowerCase());
}

function describeConstraint(schema: JsonSchema): string {
  if (schema.enum !== undefined) return schema.enum.map(String).join(' | ');
  const parts: string[] = [];
  if (schema.minimum !== undefined && schema.minimum > Number.MIN_SAFE_INTEGER) parts.push(`≥ ${schema.minimum}`);
  if (schema.exclusiveMinimum !== undefined) parts.push(`> ${schema.exclusiveMinimum}`);
  if (schema.maximum !== undefined && schema.maximum < Number.MAX_SAFE_INTEGER) parts.push(`≤ ${schema.maximum}`);
  return parts.join(', ');
}

function withoutNull(schema: JsonSchema): JsonSchema {
  const others = schema.anyOf?.filter((option) => option.type !== 'null');
  if (others?.length !== 1) return schema;
  return { ...others[0], description: schema.description ?? others[0]?.description, default: schema.default };
}

/** All leaves of a schema in declared order. Objects inside lists are leaves of type 'array': the YAML file sets them. */
export function configLeaves(program: ProgramName, schema: z.ZodType): ConfigLeaf[] {
  const leaves: ConfigLeaf[] = [];
  const visit = (node: JsonSchema, path: string[]): void => {
    for (const [name, raw] of Object.entries(node.properties ?? {})) {
      const child = withoutNull(raw);
      const childPath = [...path, name];
      if (child.properties !== undefined) {
        visit(child, childPath);
        continue;
      }
      const flat = childPath.flatMap(words);
      leaves.push({
        path: childPath,
        key: childPath.join('.'),
        env: `SLUICE_${program.toUpperCase()}_${flat.join('_').toUpperCase()}`,
        flag: `--${flat.join('-')}`,
        type: (child.type ?? 'string') as ConfigLeaf['type'],
        description: child.description ?? '',
        default: child.default,
        constraint: describeConstraint(child),
      });
    }
  };
  visit(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema, []);
  return leaves;
}

type Tree = { [key: string]: unknown };

function setPath(tree: Tree, path: readonly string[], value: unknown): void {
  let node = tree;
  for (const name of path.slice(0, -1)) {
    const child = node[name];
    if (typeof child !== 'object' || child === null || Array.isArray(child)) node[name] = {};
    node = node[name] as Tree;
  }
  node[path[path.length - 1]] = value;
}

/** Text from a flag or the environment, as the schema's type wants it; what does not fit stays text for zod to refuse. */
function parseLeaf(leaf: ConfigLeaf, text: string): unknown {
  if (text === 'null') return null;
  if (leaf.type === 'number' || leaf.type === 'integer') {
    const value = Number(text);
    return text.trim() === '' || Number.isNaN(value) ? text : value;
  }
  if (leaf.type === 'boolean') return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
  if (leaf.type === 'array' || leaf.type === 'object') {
    try {
      return parseYaml(text) as unknown;
    } catch {
      return text; // zod's refusal names the path and the type, which says more than a YAML error would
    }
  }
  return text;
}

export interface ConfigSources {
  /** Path of the YAML file; null for none. */
  readonly file: string | null;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Flag texts by leaf key. */
  readonly flags: ReadonlyMap<string, string>;
}

function readConfigFile(file: string): Tree {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new SluiceError('ERR_CONFIG_FILE', `cannot read ${file}: ${errorMessage(cause)}`, { cause });
  }
  try {
    const parsed = parseYaml(text) as unknown;
    if (parsed === null || parsed === undefined) return {};
    if (typeof parsed !== 'object' || Array.isArray(parsed)) {
      throw new SluiceError(
        'ERR_CONFIG_FILE',
        `${file}: expected keys with values at the top level, got ${Array.isArray(parsed) ? 'a list' : typeof parsed}`,
      );
    }
    return parsed as Tree;
  } catch (cause) {
    if (cause instanceof YAMLParseError) throw new SluiceError('ERR_CONFIG_FILE', `${file} is not YAML: ${cause.message}`, { cause });
    throw cause;
  }
}

/**
 * Merges the sources and validates.
 *
 * @throws SluiceError ERR_CONFIG_FILE, or ERR_CONFIG_INVALID with one line per error.
 */
export function loadConfig<S extends z.ZodType>(program: ProgramName, schema: S, sources: ConfigSources): z.infer<S> {
  const leaves = configLeaves(program, schema);
  const tree = sources.file === null ? {} : readConfigFile(sources.file);
  const origins = new Map<string, string>();
  const errors: string[] = [];
  const known = new Set(leaves.map((leaf) => leaf.env));
  for (const name of Object.keys(sources.env)) {
    if (name.startsWith(`SLUICE_${program.toUpperCase()}_`) && !known.has(name)) {
      errors.push(`environment ${name}: no such setting${suggest(name, known)}`);
    }
  }
  for (const leaf of leaves) {
    const fromEnv = sources.env[leaf.env];
    if (fromEnv !== undefined) {
      setPath(tree, leaf.path, parseLeaf(leaf, fromEnv));
      origins.set(leaf.key, `environment ${leaf.env}`);
    }
    const fromFlag = sources.flags.get(leaf.key);
    if (fromFlag !== undefined) {
      setPath(tree, leaf.path, parseLeaf(leaf, fromFlag));
      origins.set(leaf.key, `flag ${leaf.flag}`);
    }
  }
  const result = schema.safeParse(tree);
  if (!result.success) {
    for (const issue of result.error.issues) {
      const key = issue.path.map(String).join('.');
      const leaf = leaves.find((other) => other.key === key);
      // A fault inside a list lies below the setting that the flag or variable gave.
      const given = [...origins].find(([setting]) => key === setting || key.startsWith(`${setting}.`));
      const origin = given?.[1] ?? (sources.file === null ? 'configuration' : sources.file);
      const wanted = leaf !== undefined && leaf.constraint !== '' ? ` (allowed: ${leaf.constraint})` : '';
      const hint = issue.code === 'unrecognized_keys' ? suggest(issue.keys[0] ?? '', new Set(leaves.flatMap((other) => other.path))) : '';
      errors.push(`${origin}: ${key === '' ? '' : `${key}: `}${issue.message}${wanted}${hint}`);
    }
  }
  if (errors.length > 0 || !result.success) {
    throw new SluiceError(
      'ERR_CONFIG_INVALID',
      `${errors.length} configuration error${errors.length === 1 ? '' : 's'}:\n${errors.map((line) => `  ${line}`).join('\n')}`,
    );
  }
  return result.data;
}

/** ' — did you mean X?' when one known name is near. */
function suggest(name: string, known: ReadonlySet<string>): string {
  let best: string | null = null;
  let bestDistance = Math.min(4, 1 + Math.floor(name.length / 2)); // farther than three edits, or half of it, is another word
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase(), bestDistance);
    if (distance < bestDistance) {
      bestDistance = distance;
      best = candidate;
    }
  }
  return best === null ? '' : ` (did you mean ${best}?)`;
}

function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, previous[j] + 1, current[j - 1] + 1));
    }
    previous = current;
  }
  return previous[b.length];
}
