import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { fromVectorJson, toVectorJson, type VectorJson } from '../../test/vectors/batch/vector-json.ts';
import { availableCompressions } from './compression.ts';
import { decodeBatch, inspectBatch } from './decode.ts';
import { encodeBatch } from './encode.ts';

const folder = fileURLToPath(new URL('../../test/vectors/batch/', import.meta.url));
const files = readdirSync(folder);
const names = files.filter((file) => file.endsWith('.json')).map((file) => file.slice(0, -'.json'.length));

function read(name: string): VectorJson {
  const json: VectorJson = JSON.parse(readFileSync(`${folder}${name}.json`, 'utf8'));
  return json;
}

describe('batch vectors', () => {
  test('are all there', () => {
    expect(names.length).toBeGreaterThanOrEqual(11);
    expect(files.filter((file) => file.startsWith('bad-')).length).toBeGreaterThanOrEqual(5);
  });

  test.each(names)('%s decodes to its JSON and encodes to its bytes', (name) => {
    const bytes = readFileSync(`${folder}${name}.bin`);
    expect(toVectorJson(decodeBatch(bytes))).toEqual(read(name));
    expect(Buffer.from(encodeBatch(fromVectorJson(read(name)), 'none')).equals(bytes)).toBe(true);
  });

  test.each(['br', 'zstd'] as const)('the reference fleet decodes from %s', (compression) => {
    if (!availableCompressions().includes(compression)) return;
    const bytes = readFileSync(`${folder}reference-fleet.${compression}.bin`);
    expect(inspectBatch(bytes).compression).toBe(compression);
    expect(toVectorJson(decodeBatch(bytes))).toEqual(read('reference-fleet'));
  });

  test.each(files.filter((file) => file.startsWith('bad-')))('%s gives the error in its name', (file) => {
    const code = file.slice('bad-'.length, -'.bin'.length);
    expect(() => decodeBatch(readFileSync(folder + file))).toThrow(expect.objectContaining({ code }));
  });
});
