/** The types of the TypeScript client, made from the hub's OpenAPI document, that is from the schemas that validate. */
import { createHubApp } from '../hub/http/app.ts';
import { OPENAPI_INFO } from '../hub/http/reference.ts';
import type { HubServices } from '../hub/http/service.ts';
import { DEFAULT_WINDOW_DEFINITIONS } from '../shared/window/definition.ts';

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly (string | number)[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly description?: string;
  readonly example?: unknown;
}

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly schema: Schema;
  readonly description?: string;
}

interface Operation {
  readonly parameters?: readonly Parameter[];
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, { readonly schema: Schema }>> }>>;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

/** Not for readers of data. */
const OTHER_SCHEMAS = /^Enroll/;
const NAMES: Readonly<Record<string, string>> = { string: 'string', number: 'number', integer: 'number', boolean: 'boolean', null: 'null' };

function typeOf(schema: Schema): string {
  if (schema.$ref !== undefined) return schema.$ref.replace(/^.*\//, '');
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return unionOf(choices.map(typeOf));
  if (schema.enum !== undefined) return unionOf(schema.enum.map((value) => (typeof value === 'string' ? `'${value}'` : String(value))));
  const types = typeof schema.type === 'string' ? [schema.type] : (schema.type ?? []);
  if (types.length === 0) return 'unknown';
  return unionOf(
    types.map((type) =>
      type === 'array' ? listOf(schema.items ?? {}) : type === 'object' ? objectOf(schema) : (NAMES[type] ?? 'unknown'),
    ),
  );
}

function unionOf(types: readonly string[]): string {
  // Where a bar stands inside of brackets it belongs to them.
  const parts = new Set(types.flatMap((type) => type.match(/(?:[^|<{(]|<[^>]*>|\{[^}]*\}|\([^)]*\))+/g) ?? []).map((part) => part.trim()));
  // A literal is a string already.
  return [...parts].filter((part) => !(part.startsWith("'") && parts.has('string'))).join(' | ');
}

function listOf(items: Schema): string {
  const item = typeOf(items);
  return item.includes(' ') ? `readonly (${item})[]` : `readonly ${item}[]`;
}

function objectOf(schema: Schema): string {
  const { properties, additionalProperties: rest } = schema;
  if (properties === undefined) return `Readonly<Record<string, ${typeof rest === 'object' ? typeOf(rest) : 'unknown'}>>`;
  return `{\n${membersOf(schema)}}`;
}

function comment(text: string | undefined): string {
  return text === undefined ? '' : `/** ${text.replaceAll('*/', '* /')} */\n`;
}

function membersOf({ properties = {}, required = [], additionalProperties: rest }: Schema): string {
  const members = Object.entries(properties).map(
    ([name, schema]) => `${comment(schema.description)}readonly ${name}${required.includes(name) ? '' : '?'}: ${typeOf(schema)};\n`,
  );
  // What further members are must not contradict those that have names.
  const any = typeof rest === 'object' ? unionOf([typeOf(rest), ...Object.values(properties).map(typeOf), 'undefined']) : null;
  return `${members.join('')}${any === null ? '' : `readonly [name: string]: ${any};\n`}`;
}

function capital(path: string): string {
  const name = path.replace(/^.*\//, '');
  return name[0].toUpperCase() + name.slice(1);
}

function parameterType({ name, schema }: Parameter): string {
  // Times are the ones that know "now"; windows are what the hub is configured with.
  if (schema.example === 'now-1h' || schema.example === 'now') return 'TimeParameter';
  if (name === 'window') return 'string';
  if (schema.type === 'array') return 'ListParameter';
  return typeOf(schema);
}

function queryOf(path: string, parameters: readonly Parameter[]): string {
  const members = parameters
    .filter((parameter) => parameter.in === 'query' && parameter.name !== 'format')
    .map(
      (parameter) =>
        `${comment(parameter.description ?? parameter.schema.description)}readonly ${parameter.name}?: ${parameterType(parameter)};\n`,
    );
  return members.length === 0 ? '' : `/** Parameters of ${path}. */\nexport interface ${capital(path)}Query {\n${members.join('')}}\n`;
}

/** TypeScript, not yet formatted. */
export function clientTypes(): string {
  const services = { engine: { definitions: DEFAULT_WINDOW_DEFINITIONS } } as unknown as HubServices;
  const { paths, components } = createHubApp(services).getOpenAPI31Document(OPENAPI_INFO) as unknown as Document;
  const parts = [
    "/** Types of the hub's HTTP API. Made from its OpenAPI document by `npm run docs`; a test compares. */\n",
    '/** RFC 3339, `now-1h`, a `Date`, or the Unix epoch (told apart by size). */\nexport type TimeParameter = string | number | Date;\n',
    '/** One name or several; `*` in a name matches any characters. */\nexport type ListParameter = string | readonly string[];\n',
  ];
  for (const [name, schema] of Object.entries(components.schemas)) {
    if (OTHER_SCHEMAS.test(name)) continue;
    const isUnion = schema.oneOf !== undefined || schema.anyOf !== undefined;
    const declaration = isUnion ? `type ${name} = ${typeOf(schema)};` : `interface ${name} {\n${membersOf(schema)}}`;
    parts.push(`${comment(schema.description)}export ${declaration}\n`);
  }
  for (const [path, { get, post }] of Object.entries(paths)) {
    const operation = get ?? post;
    if (path.includes('{')) continue; // it has no parameters but those of its path
    const answer = operation.responses['200']?.content?.['application/json']?.schema;
    if (OTHER_SCHEMAS.test(capital(path))) continue;
    parts.push(queryOf(path, operation.parameters ?? []));
    if (answer !== undefined && answer.$ref === undefined) parts.push(`export interface ${capital(path)}Answer {\n${membersOf(answer)}}\n`);
  }
  return parts.join('\n');
}
