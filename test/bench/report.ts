/** docs/benchmarks.md and its charts, from the results of one run: a pure function. */
import { barChart } from './chart.ts';
import { asMarkdown, hotTable, ratioTable, valueTable, type BenchResult } from './figures.ts';
import type { Machine } from './machine.ts';
import { APT_LINE } from './peers.ts';

export interface ReportRun {
  readonly machine: Machine;
  /** As somebody would type it. */
  readonly command: string;
  readonly isShort: boolean;
}

/** @returns path below docs/ → text */
export function renderReport(run: ReportRun, results: readonly BenchResult[]): Map<string, string> {
  const files = new Map<string, string>();
  const sections = results.map((result) => {
    const figures = result.chart === null ? [] : result.figures.filter(({ metric }) => metric === result.chart?.metric);
    if (result.chart !== null && figures.length > 0) files.set(`benchmarks/${result.name}.svg`, barChart(result.chart.title, figures));
    return section(result, figures.length > 0);
  });
  files.set('benchmarks.md', page(run, sections));
  return files;
}

function section(result: BenchResult, hasChart: boolean): string {
  const parts = [
    `## ${result.title}`,
    result.method,
    `\`npm run bench -- ${result.name}\`, ${result.rounds} round${result.rounds === 1 ? '' : 's'}.`,
  ];
  if (hasChart) parts.push(`![${result.chart?.title ?? result.title}](benchmarks/${result.name}.svg)`);
  const ratios = asMarkdown(ratioTable(result.figures));
  if (ratios !== '') parts.push(ratios);
  parts.push(asMarkdown(valueTable(result.figures)));
  if (result.notes.length > 0) parts.push(result.notes.map((note) => `- ${note}`).join('\n'));
  if (result.hotThreads.length > 0) {
    parts.push(
      'Where a short profiled pass spent its time, the functions themselves without what they call:',
      asMarkdown(hotTable(result.hotThreads)),
    );
  }
  return parts.join('\n\n');
}

const SHORT_NOTE =
  '\n\nThis was a short run: loads last seconds, so that starting and compiling weigh more than in the long form without `--short`.';

function page({ machine, command, isShort }: ReportRun, sections: readonly string[]): string {
  return `# Benchmarks

Every figure on this page was measured by one run of \`${command}\`, which wrote the page. Values are medians
over the rounds with the least and the greatest beside them; ratios are taken round by round against a reference under the
same load on the same machine, and are what to compare between machines. Subjects run one after the other, never at the
same time. Load, subject and benchmark share the cores and the loopback interface.${isShort ? SHORT_NOTE : ''}

| machine | |
|---|---|
| CPU | ${machine.cpu}, ${machine.cores} cores |
| memory | ${(machine.memoryBytes / 1024 ** 3).toFixed(1)} GiB |
| system | ${machine.distribution}, Linux ${machine.kernel}, ${machine.fileSystem} |
| Node | ${machine.node} |
| date | ${machine.date} |
| load average before | ${machine.loadAverage.toFixed(2)} |

Peers come from Debian, and are left out where they are missing: \`${APT_LINE}\`.

${sections.join('\n\n')}
`;
}
