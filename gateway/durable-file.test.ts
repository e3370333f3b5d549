import { expect, onTestFinished, test } from 'vitest';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { writeDurably } from './durable-file.ts';

function directory(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'sluice-durable-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

test('a file is replaced as a whole, is for its owner alone, and leaves nothing beside it', () => {
  const file = path.join(directory(), 'deep', 'settings.json');
  writeDurably(file, 'first, and longer than what comes after');
  writeDurably(file, new TextEncoder().encode('second'));
  expect(readFileSync(file, 'utf8')).toBe('second');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readdirSync(path.dirname(file))).toEqual(['settings.json']);
});

test('what a crash left under the temporary name gives neither its content nor its mode to the next file', () => {
  const file = path.join(directory(), 'settings.json');
  writeFileSync(`${file}.new`, 'half of a much longer content', { mode: 0o644 });
  writeDurably(file, 'whole', `${file}.new`);
  expect(readFileSync(file, 'utf8')).toBe('whole');
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test('a write that fails is an error, the old content stands and no litter stays', () => {
  const file = path.join(directory(), 'settings.json');
  mkdirSync(file); // nothing can be renamed onto a directory that is not empty
  writeFileSync(path.join(file, 'content'), 'old');
  expect(() => writeDurably(file, 'new')).toThrow(/EISDIR|ENOTEMPTY/);
  expect(readFileSync(path.join(file, 'content'), 'utf8')).toBe('old');
  expect(existsSync(`${file}.${process.pid}.tmp`)).toBe(false);
});
