/**
 * What is made from the source: the configuration reference, the errors, the types of the client. `npm run docs` writes it,
 * a test compares it.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as prettier from 'prettier';
import type { z } from 'zod';
import { gatewayConfigSchema } from '../gateway/config.ts';
import { topicRuleSchema } from '../gateway/decode/topic-rules.ts';
import { folderSourceSchema } from '../gateway/sources/folder-settings.ts';
import { mqttSourceSchema } from '../gateway/sources/mqtt-settings.ts';
import { hubConfigSchema } from '../hub/config.ts';
import { simConfigSchema } from '../firmware-sim/config.ts';
import { configLeaves, type ProgramName } from '../shared/config.ts';
import { ERRORS } from '../shared/errors.ts';
import { clientTypes } from './client-types.ts';

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function settingsTable(program: ProgramName, schema: z.ZodType): string {
  const rows = configLeaves(program, schema).map((leaf) => {
    const fallback = leaf.default === undefined ? '' : `\`${cell(JSON.stringify(leaf.default))}\``;
    return `| \`${leaf.key}\` | ${fallback} | ${cell(leaf.constraint)} | ${cell(leaf.description)} | \`${leaf.env}\` |`;
  });
  return ['| key | default | allowed | what it does | environment |', '|---|---|---|---|---|', ...rows].join('\n');
}

/** Keys of one entry of a list: the file alone sets them. */
function entryTable(schema: z.ZodType): string {
  const rows = configLeaves('gateway', schema).map((leaf) => {
    const fallback = leaf.default === undefined ? 'required' : `\`${cell(JSON.stringify(leaf.default))}\``;
    return `| \`${leaf.key}\` | ${fallback} | ${cell(leaf.constraint)} | ${cell(leaf.description)} |`;
  });
  return ['| key | default | allowed | what it does |', '|---|---|---|---|', ...rows].join('\n');
}

export function configurationPage(): string {
  return `# Configuration

Every program takes its settings from, in rising precedence: defaults, a YAML file (\`--config FILE\`), environment
variables, flags. A key \`a.bC\` of the file is \`--a-b-c\` as a flag. Lists and objects may be given as YAML in a flag or
variable. Unknown keys are refused, and all errors are shown at once. \`sluice-hub config check\` and
\`sluice-gateway config check\` check a configuration without starting anything.

This page is made from the schemas that validate (\`npm run docs\`).

## sluice-gateway

${settingsTable('gateway', gatewayConfigSchema)}

### An entry of \`topics\`

${entryTable(topicRuleSchema)}

### An entry of \`sources.mqtt\`

${entryTable(mqttSourceSchema)}

### An entry of \`sources.folders\`

${entryTable(folderSourceSchema)}

## sluice-hub

${settingsTable('hub', hubConfigSchema)}

## sluice-sim run

${settingsTable('sim', simConfigSchema)}
`;
}

export function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, kind]) => `| \`${code}\` | ${kind.httpStatus} | ${kind.retryable ? 'yes' : 'no'} | ${cell(kind.summary)} |`,
  );
  return `# Errors

Codes are for programs and stay; messages are for people and may change. Over HTTP an error is an RFC 9457
\`application/problem+json\` with the code in \`code\`. *Retryable* says whether the same request may succeed later, unchanged.

This page is made from the table in shared/errors.ts (\`npm run docs\`).

| code | HTTP status | retryable | meaning |
|---|---|---|---|
${rows.join('\n')}
`;
}

async function clientAnswers(): Promise<string> {
  return prettier.format(clientTypes(), { parser: 'typescript', printWidth: 140, singleQuote: true });
}

export const PAGES: Readonly<Record<string, () => string | Promise<string>>> = {
  'docs/configuration.md': configurationPage,
  'docs/errors.md': errorsPage,
  'shared/hub-client/answers.ts': clientAnswers,
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
  for (const [file, make] of Object.entries(PAGES)) writeFileSync(path.join(root, file), await make());
}
