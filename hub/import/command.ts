/** `sluice-hub import FILE…`: history into the lake, beside a running hub or without one. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { Command, withConfig } from '../../shared/cli.ts';
import { systemClock } from '../../shared/clock.ts';
import { SluiceError } from '../../shared/errors.ts';
import { GATEWAY_ID_PATTERN } from '../../shared/uplink.ts';
import { hubConfigSchema } from '../config.ts';
import { LocalStore } from '../lake/local-store.ts';
import type { ImportResult } from './import-file.ts';
import type { ImportPlan } from './import-record.ts';
import { mappingOf, type MappingFlags } from './mapping.ts';

interface ImportFlags extends MappingFlags {
  readonly gateway: string;
  readonly format?: string;
  readonly delimiter: string;
}

export function importCommand(): Command {
  const command = new Command('import')
    .description('import history from CSV, NDJSON or Parquet files (.gz too), each exactly once; run it again to resume')
    .argument('<files...>', 'with a header (CSV), an object per line (NDJSON)')
    .option('--time <column>', 'column of the event time (default: time)')
    .option('--time-unit <unit>', 's, ms, us or ns since 1970; without it RFC 3339 (UTC where it has no zone) or told by size')
    .option('--device <column>', 'column of the device (default: device)')
    .option('--device-name <name>', 'all rows are of this device')
    .option('--metric <column>', 'column of the metric (default: metric)')
    .option('--metric-name <name>', 'all rows are of this metric')
    .option('--value <column>', 'column of the value (default: value)')
    .option('--values <columns>', 'wide form instead: a metric per column, COLUMN or COLUMN=METRIC, comma-separated')
    .option('--tags <columns>', 'columns that become tags, comma-separated')
    .option('--gateway <name>', 'gateway that the readings are of; names that begin with import hold no windows open', 'import')
    .option('--format <format>', 'csv, ndjson or parquet; default: by the name of the file')
    .option('--delimiter <character>', 'between the fields of a CSV', ',');
  const readConfig = withConfig(command, 'hub', hubConfigSchema);
  command.action(async (files: string[], flags: ImportFlags) => {
    if (!GATEWAY_ID_PATTERN.test(flags.gateway))
      throw new SluiceError(
        'ERR_IMPORT_MAPPING',
        `--gateway ${JSON.stringify(flags.gateway.slice(0, 70))}: 1 to 64 letters, digits, dots, - and _`,
      );
    const mapping = mappingOf(flags);
    // Only here: the other commands of the hub start in half the time without these.
    const [{ EngineClient }, { engineSettings }, { importFile }, { formatOf }] = await Promise.all([
      import('../engine-client.ts'),
      import('../hub.ts'),
      import('./import-file.ts'),
      import('./rows.ts'),
    ]);
    const plans = files.map((file): [string, ImportPlan] => [
      file,
      { gateway: flags.gateway, format: formatOf(file, flags.format), delimiter: flags.delimiter, mapping },
    ]);
    const config = readConfig(process.env);
    const store = await LocalStore.open(config.lakeDir);
    const settings = { ...engineSettings(config), hubInstance: randomBytes(16).toString('hex') };
    const engine = await EngineClient.start(settings, (error) => {
      process.stderr.write(`sluice-hub: the import cannot go on, run it again: ${error.message}\n`);
      process.exit(1);
    });
    try {
      for (const [file, plan] of plans) {
        const result = await importFile(file, plan, { engine, store, clock: systemClock, output: process.stderr });
        process.stdout.write(`${summary(file, result)}\n`);
      }
    } finally {
      await engine.stop();
    }
  });
  return command;
}

function summary(file: string, { wasDone, finishedUs, rows, readings, rejected }: ImportResult): string {
  const what = `${readings} readings of ${rows} rows${rejected === 0 ? '' : `, ${rejected} rows rejected (GET /v1/exceptions has each with its line)`}`;
  const name = path.basename(file);
  return wasDone ? `${name}: imported already, at ${new Date(finishedUs / 1000).toISOString()}: ${what}` : `${name}: imported ${what}`;
}
