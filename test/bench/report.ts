/** docs/benchmarks.md and its charts, from the results of one or several runs on one machine: pure functions. */
import { barChart } from './chart.ts';
import { asMarkdown, hotTable, ratioTable, valueTable, type BenchResult } from './figures.ts';
import type { Machine } from './machine.ts';
import type { HotThread } from './profile-summary.ts';
import { APT_LINE } from './peers.ts';

/**
 * A page of one machine: what was measured anew takes its benchmark's place, the others keep what an earlier run on the same
 * machine measured.
 * @param names all benchmarks, in the order of the page
 */
export function mergeResults(
  names: readonly string[],
  earlier: readonly BenchResult[],
  measured: readonly BenchResult[],
): readonly BenchResult[] {
  const machine = measured[0]?.run.machine;
  const kept = machine === undefined ? [] : earlier.filter(({ run }) => isSameMachine(run.machine, machine));
  return names.flatMap((name) => {
    const result = measured.find((other) => other.name === name) ?? kept.find((other) => other.name === name);
    return result === undefined ? [] : [result];
  });
}

function isSameMachine(a: Machine, b: Machine): boolean {
  return a.cpu === b.cpu && a.cores === b.cores && a.kernel === b.kernel && a.node === b.node && a.fileSystem === b.fileSystem;
}

/** @returns path below docs/ → text */
export function renderReport(results: readonly BenchResult[]): Map<string, string> {
  const files = new Map<string, string>();
  const sections = results.map((result) => {
    const figures = result.chart === null ? [] : result.figures.filter(({ metric }) => metric === result.chart?.metric);
    if (result.chart !== null && figures.length > 0) files.set(`benchmarks/${result.name}.svg`, barChart(result.chart.title, figures));
    return section(result, figures.length > 0);
  });
  files.set('benchmarks.md', page(results[0].run.machine, sections));
  return files;
}

function section(result: BenchResult, hasChart: boolean): string {
  const { command, machine, isShort } = result.run;
  const rounds = `${result.rounds} round${result.rounds === 1 ? '' : 's'}`;
  const parts = [
    `## ${result.title}`,
    result.method,
    `\`${command}\`, ${rounds}${isShort ? ' of the short form' : ''}, ${machine.date}, load average before ${machine.loadAverage.toFixed(2)}.`,
  ];
  if (hasChart) parts.push(`![${result.chart?.title ?? result.title}](benchmarks/${result.name}.svg)`);
  const ratios = asMarkdown(ratioTable(result.figures));
  if (ratios !== '') parts.push(ratios);
  parts.push(asMarkdown(valueTable(result.figures)));
  if (result.notes.length > 0) parts.push(result.notes.map((note) => `- ${note}`).join('\n'));
  if (result.hotThreads.length > 0) {
    parts.push(nextBottleneck(result.hotThreads[0]), asMarkdown(hotTable(result.hotThreads)));
  }
  return parts.join('\n\n');
}

/** In words, from the busiest thread of the profiled pass. */
function nextBottleneck({ thread, share, functions }: HotThread): string {
  const [first, second] = functions.map((hot) => `${hot.name} (${Math.round(hot.share * 100)} %)`);
  const where = second === undefined ? first : `${first} and ${second}`;
  return (
    `The next bottleneck is ${thread}: ${Math.round(share * 100)} % of the busy time of a short profiled pass, the largest parts in ${where}. ` +
    'Functions count without what they call.'
  );
}

function page(machine: Machine, sections: readonly string[]): string {
  return `# Benchmarks

Every figure on this page was measured on one machine by the command in its section, and written by \`npm run bench -- --report\`.
Values are medians over the rounds with the least and the greatest beside them; ratios are taken round by round against a
reference under the same load in the same run, and are what to compare between machines. Subjects run one after the other, never
at the same time. Load, subject and benchmark share the cores and the loopback interface. In the short form loads last seconds,
so that starting and compiling weigh more than in the long one.

| machine | |
|---|---|
| CPU | ${machine.cpu}, ${machine.cores} cores |
| memory | ${(machine.memoryBytes / 1024 ** 3).toFixed(1)} GiB |
| system | ${machine.distribution}, Linux ${machine.kernel}, ${machine.fileSystem} |
| Node | ${machine.node} |

Peers come from Debian, and are left out where they are missing: \`${APT_LINE}\`.

${sections.join('\n\n')}
`;
}
