/**
 * The chart: a mean per line, closed windows solid, open ones dashed on a tinted ground; with few lines the band from
 * minimum to maximum; windows that miss readings marked at the bottom.
 *
 * uPlot draws; it is made anew when the number of lines or the colours change, otherwise it only gets data.
 */
import uPlot from 'uplot';
import { make } from './dom.ts';
import { formatCount, formatLost, formatTime, formatValue } from './format.ts';
import type { HubClock } from './hub-clock.ts';
import { chartColumns, type ChartColumns, type Line } from './lines.ts';

/** With more, bands would cover one another. */
export const BANDS_MAX = 2;

export interface ChartInput {
  readonly lines: readonly Line[];
  /** Keys of lines that are switched off. */
  readonly hidden: ReadonlySet<string>;
  readonly sizeMs: number;
  readonly rangeMs: number;
  readonly emptyText: string;
  /** What the picture shows, for those who do not see it. */
  readonly description: string;
}

/** Columns of uPlot per line: closed, open, min, max. */
const COLUMNS_PER_LINE = 4;
const HEIGHT_WIDE = 300;
const HEIGHT_NARROW = 230;
const NARROW_WIDTH = 560;
/** The least that the time axis shows. */
const YOUNG_SLOTS = 6;
/** Points are drawn where they are at least so far apart, in CSS pixels. */
const POINT_SPACING_MIN = 14;

export function lineColour(index: number): string {
  return cssColour(`--line-${(index % 8) + 1}`);
}

function cssColour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** With two hex digits of transparency; the palette is all #rrggbb. */
function translucent(colour: string, alpha: string): string {
  return colour.length === 7 ? `${colour}${alpha}` : colour;
}

export class Chart {
  readonly #host: HTMLElement;
  readonly #clock: HubClock;
  readonly #readout = make('div', { class: 'readout', hidden: true, 'aria-hidden': 'true' });
  readonly #empty = make('p', { class: 'chart-empty' });
  #plot: uPlot | null = null;
  #shape = '';
  #input: ChartInput | null = null;
  #columns: ChartColumns = { startsSeconds: [], lines: [], openFrom: null, lossy: [] };

  constructor(host: HTMLElement, clock: HubClock) {
    this.#host = host;
    this.#clock = clock;
    host.setAttribute('role', 'img');
    host.append(this.#empty);
    new ResizeObserver(() => this.#resize()).observe(host);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.#shape = '';
      if (this.#input !== null) this.show(this.#input);
    });
  }

  show(input: ChartInput): void {
    this.#input = input;
    const visible = input.lines.filter(({ key }) => !input.hidden.has(key));
    this.#columns = chartColumns(visible, input.sizeMs);
    this.#host.setAttribute('aria-label', input.description);
    const isEmpty = this.#columns.startsSeconds.length === 0;
    this.#empty.hidden = !isEmpty;
    this.#empty.textContent = input.emptyText;
    const shape = JSON.stringify([input.lines.map(({ key }) => key), [...input.hidden], input.sizeMs]);
    if (isEmpty || shape !== this.#shape) {
      this.#plot?.destroy();
      this.#plot = null;
    }
    this.#shape = shape;
    if (isEmpty) return;
    const data = this.#data(visible.length <= BANDS_MAX);
    if (this.#plot === null) this.#plot = new uPlot(this.#options(input, visible), data, this.#host);
    else this.#plot.setData(data);
  }

  #data(withBands: boolean): uPlot.AlignedData {
    const none: null[] = [];
    return [
      this.#columns.startsSeconds,
      ...this.#columns.lines.flatMap(({ closed, open, min, max }) => [closed, open, withBands ? min : none, withBands ? max : none]),
    ] as uPlot.AlignedData;
  }

  #size(): { width: number; height: number } {
    const width = Math.max(240, this.#host.clientWidth);
    return { width, height: width < NARROW_WIDTH ? HEIGHT_NARROW : HEIGHT_WIDE };
  }

  #resize(): void {
    const plot = this.#plot;
    if (plot === null) return;
    const size = this.#size();
    if (size.width !== plot.width || size.height !== plot.height) plot.setSize(size);
  }

  #options(input: ChartInput, visible: readonly Line[]): uPlot.Options {
    const colours = visible.map((line) => lineColour(input.lines.indexOf(line)));
    const withBands = visible.length <= BANDS_MAX;
    const isNarrow = this.#size().width < NARROW_WIDTH;
    const axis = {
      stroke: cssColour('--dim'),
      grid: { stroke: cssColour('--line'), width: 1 },
      ticks: { show: false },
      font: '12px system-ui, sans-serif',
    };
    return {
      ...this.#size(),
      padding: [12, 28, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      scales: { x: { time: true, range: (_, min, max) => this.#xRange(min, max) }, y: { range: (_, min, max) => yRange(min, max) } },
      axes: [
        { ...axis, size: 30, space: isNarrow ? 55 : 70, values: timeLabels },
        { ...axis, size: isNarrow ? 50 : 62, gap: 6, values: (_, ticks) => ticks.map((tick) => formatValue(tick)) },
      ],
      series: [{}, ...colours.flatMap((colour) => lineSeries(colour))],
      bands: withBands
        ? colours.map((colour, index) => ({
            series: [index * COLUMNS_PER_LINE + 4, index * COLUMNS_PER_LINE + 3],
            fill: translucent(colour, '2b'),
          }))
        : [],
      hooks: {
        drawClear: [(plot) => this.#drawOpenGround(plot)],
        draw: [(plot) => this.#drawLossMarks(plot)],
        setCursor: [(plot) => this.#showReadout(plot)],
        init: [(plot) => plot.over.append(this.#readout)],
      },
    };
  }

  /** A fleet that has just started gets a chart of some windows, not a dot at the edge of an hour. */
  #xRange(min: number, max: number): [number, number] {
    const input = this.#input;
    if (input === null || min === null || max === null) return [min, max];
    const sizeSeconds = input.sizeMs / 1000;
    return [Math.min(min, max - YOUNG_SLOTS * sizeSeconds), max + sizeSeconds * 0.5];
  }

  #drawOpenGround(plot: uPlot): void {
    const { openFrom, startsSeconds } = this.#columns;
    if (openFrom === null) return;
    const { left, top, width, height } = plot.bbox;
    const sizeSeconds = (this.#input?.sizeMs ?? 0) / 1000;
    const from = Math.max(left, plot.valToPos((startsSeconds[openFrom] ?? 0) - sizeSeconds / 2, 'x', true));
    plot.ctx.save();
    plot.ctx.fillStyle = cssColour('--provisional');
    plot.ctx.fillRect(from, top, Math.max(0, left + width - from), height);
    plot.ctx.restore();
  }

  #drawLossMarks(plot: uPlot): void {
    const { lossy, startsSeconds } = this.#columns;
    const { top, height } = plot.bbox;
    const size = 5 * devicePixelRatio;
    plot.ctx.save();
    plot.ctx.fillStyle = cssColour('--bad');
    for (const slot of lossy) {
      const x = plot.valToPos(startsSeconds[slot] ?? 0, 'x', true);
      plot.ctx.beginPath();
      plot.ctx.moveTo(x, top + height - 1.7 * size);
      plot.ctx.lineTo(x - size, top + height);
      plot.ctx.lineTo(x + size, top + height);
      plot.ctx.fill();
    }
    plot.ctx.restore();
  }

  #showReadout(plot: uPlot): void {
    const index = plot.cursor.idx;
    const input = this.#input;
    const startSeconds = index === null || index === undefined ? undefined : this.#columns.startsSeconds[index];
    if (startSeconds === undefined || input === null || (plot.cursor.left ?? -1) < 0) {
      this.#readout.hidden = true;
      return;
    }
    this.#readout.replaceChildren(...readoutLines(input, startSeconds * 1000, this.#clock.nowMs()));
    this.#readout.hidden = false;
    const left = plot.cursor.left ?? 0;
    const width = this.#readout.offsetWidth;
    const fitsRight = left + 16 + width < plot.over.clientWidth;
    this.#readout.style.left = `${Math.max(0, fitsRight ? left + 16 : left - 16 - width)}px`;
    this.#readout.style.top = '8px';
  }
}

function lineSeries(colour: string): uPlot.Series[] {
  const points = (fill: string): uPlot.Series.Points => ({
    show: (plot) => pointsFit(plot),
    size: 6,
    stroke: colour,
    fill,
    filter: isolatedPoints,
  });
  const band = { points: { show: false }, width: 0, stroke: 'transparent' };
  return [
    { stroke: colour, width: 2, points: points(colour) },
    { stroke: colour, width: 2, dash: [5, 5], points: points(cssColour('--panel')) },
    band,
    band,
  ];
}

function pointsFit(plot: uPlot): boolean {
  const slots = plot.data[0].length;
  return plot.bbox.width / devicePixelRatio / Math.max(1, slots) >= POINT_SPACING_MIN;
}

/** Where there is no room for all points, a value with a gap on both sides still needs one: no line leads to it. */
function isolatedPoints(plot: uPlot, series: number, show: boolean): number[] | null {
  if (show) return null;
  const values = plot.data[series] ?? [];
  const found: number[] = [];
  const isNothing = (value: number | null | undefined): boolean => value === null || value === undefined;
  for (let index = 0; index < values.length; index++) {
    if (!isNothing(values[index]) && isNothing(values[index - 1]) && isNothing(values[index + 1])) found.push(index);
  }
  return found;
}

function yRange(min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 1];
  const spread = max - min;
  const pad = spread === 0 ? Math.abs(max) * 0.05 || 1 : spread * 0.08;
  return [min - pad, max + pad];
}

function timeLabels(_: uPlot, ticks: number[], __: number, ___: number, stepSeconds: number): string[] {
  const options: Intl.DateTimeFormatOptions =
    stepSeconds >= 86_400
      ? { day: 'numeric', month: 'short' }
      : stepSeconds >= 60
        ? { hour: '2-digit', minute: '2-digit' }
        : { hour: '2-digit', minute: '2-digit', second: '2-digit' };
  const format = new Intl.DateTimeFormat('en-GB', options);
  const midnight = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
  return ticks.map((tick) => {
    const date = new Date(tick * 1000);
    return date.getHours() === 0 && date.getMinutes() === 0 ? midnight.format(date) : format.format(date);
  });
}

function readoutLines(input: ChartInput, startMs: number, nowMs: number): HTMLElement[] {
  const head = make('p', { class: 'dim' }, `${formatTime(startMs, nowMs)} – ${formatTime(startMs + input.sizeMs, nowMs)}`);
  const rows = input.lines.flatMap((line, index) => {
    const point = input.hidden.has(line.key) ? undefined : line.points.find((candidate) => candidate.startMs === startMs);
    if (point === undefined) return [];
    const swatch = make('i', { class: 'swatch' });
    swatch.style.background = lineColour(index);
    return [{ point, element: make('p', {}, swatch, make('span', {}, line.label), make('span', {}, formatValue(point.mean))) }];
  });
  const elements = [head, ...rows.map(({ element }) => element)];
  const only = rows.length === 1 ? rows[0]?.point : undefined;
  if (only !== undefined) {
    elements.push(
      make(
        'p',
        { class: 'dim' },
        make('span', {}, `${formatValue(only.min)} … ${formatValue(only.max)}`),
        make('span', {}, `${formatCount(only.count)} readings`),
      ),
    );
  }
  const lost = rows.reduce((sum, { point }) => sum + point.lost, 0);
  const lostIsEstimate = rows.some(({ point }) => point.lostIsEstimate);
  const isOpen = rows.some(({ point }) => point.status === 'provisional');
  const notes = [
    ...(isOpen ? ['provisional'] : rows.some(({ point }) => point.status === 'revised') ? ['revised'] : []),
    ...(lost > 0 || lostIsEstimate ? [`missing: ${formatLost(lost, lostIsEstimate)}`] : []),
  ];
  if (notes.length > 0) elements.push(make('p', { class: lost > 0 ? 'bad' : 'dim' }, notes.join(' · ')));
  return elements;
}
