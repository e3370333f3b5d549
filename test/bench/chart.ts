/**
 * One metric of a benchmark as horizontal bars, grouped by case: SVG text, no dependency.
 *
 * Colours are mid-tones that stand out on white and on black; text is grey, so that one file serves light and dark pages.
 */
import { formatNumber, type Figure } from './figures.ts';

const WIDTH = 800;
const LABEL_WIDTH = 280;
const VALUE_WIDTH = 110;
const BAR_HEIGHT = 16;
const BAR_GAP = 4;
const GROUP_GAP = 14;
const TOP = 40;
const PALETTE = ['#3b82f6', '#f59e0b', '#10b981', '#a855f7', '#ef4444', '#14b8a6', '#8b8b8b', '#ec4899'];
const TEXT = '#808890';

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

/** @param figures those of the metric only, in the order in which they are shown */
export function barChart(title: string, figures: readonly Figure[]): string {
  const cases = [...new Set(figures.map((figure) => figure.case))];
  const names = [...new Set(figures.map((figure) => figure.name))];
  const max = Math.max(...figures.map((figure) => figure.spread[1]), Number.MIN_VALUE);
  const scale = (value: number): number => (Math.max(0, value) / max) * (WIDTH - LABEL_WIDTH - VALUE_WIDTH);
  const parts: string[] = [];
  let y = TOP;
  for (const group of cases) {
    parts.push(`<text x="0" y="${y + 12}" font-weight="600">${escape(group)}</text>`);
    y += BAR_HEIGHT + BAR_GAP;
    for (const figure of figures.filter((other) => other.case === group)) {
      const width = scale(figure.value);
      const [least, greatest] = figure.spread.map((value) => LABEL_WIDTH + scale(value));
      const middle = y + BAR_HEIGHT / 2;
      const colour = PALETTE[names.indexOf(figure.name) % PALETTE.length];
      parts.push(
        `<text x="${LABEL_WIDTH - 8}" y="${y + 12}" text-anchor="end">${escape(figure.name)}</text>`,
        `<rect x="${LABEL_WIDTH}" y="${y}" width="${Math.max(1, width).toFixed(1)}" height="${BAR_HEIGHT}" fill="${colour}"/>`,
        `<path d="M${least.toFixed(1)} ${middle}H${greatest.toFixed(1)}" stroke="${TEXT}" stroke-width="2"/>`,
        `<text x="${(greatest + 6).toFixed(1)}" y="${y + 12}">${formatNumber(figure.value)}</text>`,
      );
      y += BAR_HEIGHT + BAR_GAP;
    }
    y += GROUP_GAP;
  }
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" role="img" aria-label="${escape(title)}" ` +
    `font-family="system-ui,sans-serif" font-size="12" fill="${TEXT}">\n<text x="0" y="18" font-size="14" font-weight="600">${escape(title)}</text>\n` +
    `${parts.join('\n')}\n</svg>\n`
  );
}
