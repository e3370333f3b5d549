/** What Debian wants under /usr/share/doc of a package: who holds which rights, and what changed. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Bundle } from './bundle.ts';
import type { DebFile } from './deb.ts';

export interface DebDocuments {
  readonly root: string;
  readonly name: string;
  readonly version: string;
  readonly dateSeconds: number;
  /** Of everything inside but Sluice itself. */
  readonly licenses: Bundle['licenses'];
  /** Lines of the manual page's description. */
  readonly manual: { readonly summary: string; readonly body: string };
}

/** Without a time inside, so that the same text gives the same bytes. */
function gzipped(text: string): Buffer {
  return gzipSync(text, { level: 9 });
}

export function debDocuments(options: DebDocuments): DebFile[] {
  const { root, name, manual } = options;
  const folder = `/usr/share/doc/${name}`;
  return [
    { target: `${folder}/copyright`, mode: 0o644, content: copyrightText(options) },
    { target: `${folder}/changelog.Debian.gz`, mode: 0o644, content: gzipped(debianChangelog(options)) },
    { target: `${folder}/changelog.gz`, mode: 0o644, content: gzipped(readFileSync(path.join(root, 'CHANGELOG.md'), 'utf8')) },
    { target: `/usr/share/man/man1/${name}.1.gz`, mode: 0o644, content: gzipped(manualPage(name, manual)) },
  ];
}

function copyrightText({ licenses }: DebDocuments): string {
  const inside = licenses.map(
    ({ name, version, license, text }) =>
      `${'-'.repeat(78)}\n${name} ${version}\nLicense: ${license}\n\n${text === '' ? '(named in its package.json)' : text}\n`,
  );
  return [
    'Sluice\nCopyright: the Sluice authors\nLicense: Apache-2.0; on Debian systems the text is in /usr/share/common-licenses/Apache-2.0\n',
    'This package contains the following works, each under its own terms.\n',
    ...inside,
  ].join('\n');
}

function debianChangelog({ name, version, dateSeconds }: DebDocuments): string {
  const date = new Date(dateSeconds * 1000).toUTCString().replace('GMT', '+0000');
  return `${name} (${version}) stable; urgency=medium\n\n  * Built from the Sluice source; changelog.gz says what changed.\n\n -- Sluice maintainers <maintainers@sluice.invalid>  ${date}\n`;
}

function manualPage(name: string, { summary, body }: DebDocuments['manual']): string {
  return `.TH ${name.toUpperCase().replaceAll('-', String.raw`\-`)} 1\n.SH NAME\n${name.replaceAll('-', String.raw`\-`)} \\- ${summary}\n.SH DESCRIPTION\n${body}\n`;
}
