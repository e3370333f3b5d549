import { DuckDBInstance } from '@duckdb/node-api';
import { describe, expect, test } from 'vitest';
import { checkTable, intervalMs, schemaString } from './table-spec.ts';
import { AGGREGATES, EXCEPTIONS, PROGRESS, READINGS, retentionOf, TABLES } from './tables.ts';

/**
 * Reserved words that a column of telemetry could be named by, of the engines' documents: Spark 3.5 "SQL Reserved Keywords"
 * (ANSI mode), Trino "Reserved keywords", PostgreSQL 17 appendix C. DuckDB is asked itself.
 */
const RESERVED =
  'all alter analyse analyze and any anti array as asc asymmetric at authorization between both by case cast check collate collation column concurrently constraint ' +
  'create cross cube current_catalog current_date current_path current_role current_schema current_time current_timestamp current_user deallocate default deferrable ' +
  'delete desc describe distinct do drop else end escape except exclude execute exists extract false fetch filter for foreign freeze from full function grant group ' +
  'grouping having ilike in index initially inner insert intersect interval into is isnull join json_array json_exists json_object json_query json_table json_value ' +
  'lateral leading left like limit listagg localtime localtimestamp minus natural normalize not notnull null offset on only or order outer overlaps percentile_cont ' +
  'percentile_disc placing prepare primary range recursive references returning right rollup row rows select semi session session_user set similar skip some start ' +
  'symmetric system_user table tablesample then time to trailing trim true uescape union unique unknown unnest user using values variadic verbose when where window with';

describe('the tables of the lake', () => {
  test('have no column that an engine reserves, or that Spark cannot name', async () => {
    const instance = await DuckDBInstance.create(':memory:');
    const connection = await instance.connect();
    const rows = await connection.runAndReadAll(`SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'`);
    const reserved = new Set([...RESERVED.split(' '), ...rows.getRows().map(([word]) => String(word))]);
    connection.closeSync();
    expect(reserved.size).toBeGreaterThan(150);
    for (const table of TABLES) {
      const names = table.columns.map((column) => column.name);
      expect(new Set(names.map((name) => name.toLowerCase())).size).toBe(names.length);
      for (const name of names) {
        expect(reserved.has(name), `${table.name}.${name}`).toBe(false);
        expect(name).toMatch(/^[a-z][a-z0-9_]*$/);
      }
    }
  });

  test('keep the columns that readers depend on', () => {
    const columns = Object.fromEntries(
      TABLES.map((table) => [
        table.name,
        table.columns.map(({ name, type }) => `${name} ${typeof type === 'string' ? type : 'map'}`).join(', '),
      ]),
    );
    expect(columns).toMatchInlineSnapshot(`
      {
        "aggregates": "def string, window_name string, window_start timestamp, window_end timestamp, gateway string, device string, metric string, tags string, gen long, n long, mean double, m2 double, min_value double, max_value double, sum_value double, first_value double, first_ts timestamp, last_value double, last_ts timestamp, hist_pos map, hist_neg map, hist_zero long, nan long, late long, revision long, src_from long, src_to long",
        "exceptions": "gateway string, epoch string, lane string, seq long, idx integer, kind string, device string, metric string, from_ts timestamp, to_ts timestamp, reading_count long, reason string, payload binary, ingested_at timestamp",
        "progress": "gateway string, watermark_ts timestamp, asserted_ts timestamp, epoch string",
        "readings": "ts timestamp, gateway string, device string, metric string, tags string, value double, text string, epoch string, lane string, seq long, ingested_at timestamp, day date",
      }
    `);
    expect(TABLES.map((table) => table.partitionColumns)).toEqual([['day'], [], [], []]);
  });

  test('say their schema as Delta does, and recognise it', () => {
    expect(JSON.parse(schemaString(AGGREGATES))).toMatchObject({
      type: 'struct',
      fields: expect.arrayContaining([
        { name: 'window_start', type: 'timestamp', nullable: true, metadata: {} },
        {
          name: 'hist_pos',
          type: { type: 'map', keyType: 'integer', valueType: 'long', valueContainsNull: false },
          nullable: true,
          metadata: {},
        },
      ]),
    });
    for (const table of [READINGS, EXCEPTIONS, AGGREGATES, PROGRESS]) {
      const metaData = {
        id: 'x',
        name: null,
        description: null,
        partitionColumns: table.partitionColumns,
        configuration: {},
        createdTime: null,
      };
      checkTable(table, { ...metaData, schemaString: schemaString(table) });
      // Spark writes map values as nullable.
      checkTable(table, {
        ...metaData,
        schemaString: schemaString(table).replaceAll('"valueContainsNull":false', '"valueContainsNull":true'),
      });
      expect(() => checkTable(table, { ...metaData, schemaString: '{' })).toThrow(expect.objectContaining({ code: 'ERR_LAKE_SCHEMA' }));
      expect(() => checkTable(table, { ...metaData, partitionColumns: ['gateway'], schemaString: schemaString(table) })).toThrow(
        expect.objectContaining({ code: 'ERR_LAKE_SCHEMA' }),
      );
      const invariant = schemaString(table).replace('"metadata":{}', '"metadata":{"delta.invariants":"{}"}');
      expect(() => checkTable(table, { ...metaData, schemaString: invariant })).toThrow(
        expect.objectContaining({ code: 'ERR_LAKE_PROTOCOL' }),
      );
    }
  });
});

describe('retention', () => {
  test("is the table's own, and ours where that cannot be read", () => {
    const day = 86_400_000;
    expect(retentionOf(READINGS)).toEqual({ checkpointInterval: 100, logMs: 2 * day, deletedFileMs: day, txnMs: 400 * day });
    const odd = {
      'delta.checkpointInterval': '0',
      'delta.logRetentionDuration': 'interval 1 month',
      'delta.deletedFileRetentionDuration': 'interval 12 hours',
    };
    expect(retentionOf({ configuration: odd })).toEqual({
      checkpointInterval: 100,
      logMs: 2 * day,
      deletedFileMs: day / 2,
      txnMs: 400 * day,
    });
  });

  test('durations are read in every unit of fixed length', () => {
    expect(
      ['interval 1 week', '2 DAYS', 'interval 3 hours', 'interval 90 minutes', '5 seconds', 'interval 7 milliseconds'].map(intervalMs),
    ).toEqual([604_800_000, 172_800_000, 10_800_000, 5_400_000, 5000, 7]);
    expect([undefined, '', 'interval', '5', 'interval -1 days', 'interval 1 year'].map(intervalMs)).toEqual([
      null,
      null,
      null,
      null,
      null,
      null,
    ]);
  });
});
