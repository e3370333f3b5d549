/** The panel of one metric: controls, chart, legend, newest windows. It holds the rows of the view and draws them. */
import type { AggregateRow, WindowDefinition } from './answers.ts';
import type { Catalogue } from './catalogue.ts';
import { BANDS_MAX, Chart, lineColour } from './chart.ts';
import { Combobox } from './combobox.ts';
import { byId, make, setText } from './dom.ts';
import { formatDuration, formatValue, formatWindowSize, plural } from './format.ts';
import type { HubClock } from './hub-clock.ts';
import { RowSet, type Line } from './lines.ts';
import { defaultRange, LINES_MAX, rangesOf, type View } from './view.ts';
import { showWindows } from './window-table.ts';

/** The name of no device: control characters are refused at the gateway. */
const FIRST_DEVICES = '\u0000';

export class MetricPanel {
  readonly #onView: (view: View) => void;
  readonly #clock: HubClock;
  readonly #chart: Chart;
  readonly #metrics: Combobox;
  readonly #devices: Combobox;
  readonly #rows = new RowSet();
  #hidden = new Set<string>();
  #waitingFor: readonly string[] = [];
  #definitions: readonly WindowDefinition[] = [];
  #catalogue: Catalogue | null = null;
  #view: View | null = null;
  #isLoaded = false;
  #isDrawing = false;

  /** @param onView the reader has chosen another view */
  constructor(clock: HubClock, onView: (view: View) => void) {
    this.#clock = clock;
    this.#chart = new Chart(byId('chart'), clock);
    this.#onView = onView;
    this.#metrics = new Combobox(byId('metric-picker'), 'metric-input', 'Metric', 'Type to search', (metric) =>
      this.#choose({ metric, device: null }),
    );
    this.#devices = new Combobox(byId('device-picker'), 'device-input', 'Devices', 'Type to search', (device) =>
      this.#choose({ device: device === FIRST_DEVICES ? null : device }),
    );
    byId('range-choice', HTMLSelectElement).addEventListener('change', (event) =>
      this.#choose({ rangeMs: Number((event.target as HTMLSelectElement).value) }),
    );
  }

  setDefinitions(definitions: readonly WindowDefinition[]): void {
    this.#definitions = definitions;
  }

  setCatalogue(catalogue: Catalogue): void {
    this.#catalogue = catalogue;
    if (this.#view !== null) this.#showPickers(this.#view);
  }

  /** Another view: what was drawn is forgotten. */
  setView(view: View): void {
    this.#view = view;
    this.#rows.clear();
    this.#hidden = new Set();
    this.#isLoaded = false;
    byId('metric-panel').hidden = false;
    this.#showPickers(view);
    this.#showChoices(view);
    this.#draw();
  }

  addRows(rows: readonly AggregateRow[], waitingFor: readonly string[], isWhole: boolean): void {
    if (this.#view === null) return;
    if (isWhole) this.#rows.clear();
    this.#rows.merge(rows);
    this.#rows.dropBefore(this.#clock.nowMs() - this.#view.rangeMs - this.#definition(this.#view).size_ms);
    this.#waitingFor = waitingFor;
    this.#isLoaded ||= isWhole;
    this.#drawSoon();
  }

  #definition(view: View): WindowDefinition {
    return (
      this.#definitions.find(({ name }) => name === view.window) ?? { name: view.window, size_ms: 60_000, slide_ms: 60_000, by: 'series' }
    );
  }

  #choose(change: Partial<View>): void {
    if (this.#view !== null) this.#onView({ ...this.#view, ...change });
  }

  #chooseWindow(name: string): void {
    const definition = this.#definitions.find((candidate) => candidate.name === name);
    if (definition === undefined || this.#view === null) return;
    this.#choose({ window: name, rangeMs: defaultRange(definition), device: definition.by === 'series' ? this.#view.device : null });
  }

  #showPickers(view: View): void {
    const isPartial = this.#catalogue?.isPartial ?? false;
    const more = isPartial ? ' or more' : '';
    const metrics = [...(this.#catalogue?.metrics.values() ?? [])];
    this.#metrics.set(
      metrics.map(({ metric, devices }) => ({
        value: metric,
        label: metric,
        note: `${plural(devices.length, 'device', 'devices')}${more}`,
      })),
      view.metric,
      isPartial,
    );
    const devices = this.#catalogue?.metrics.get(view.metric)?.devices ?? [];
    const firstLabel = devices.length > LINES_MAX ? `First ${LINES_MAX} of ${devices.length}${more}` : `All ${devices.length}`;
    this.#devices.set(
      [{ value: FIRST_DEVICES, label: firstLabel, note: '' }, ...devices.map((device) => ({ value: device, label: device, note: '' }))],
      view.device ?? FIRST_DEVICES,
      isPartial,
    );
    byId('device-picker').hidden = this.#definition(view).by !== 'series' || (devices.length < 2 && view.device === null);
  }

  #showChoices(view: View): void {
    const { by, size_ms } = this.#definition(view);
    const sorted = [...this.#definitions].sort((a, b) => a.size_ms - b.size_ms);
    const nearest = (wanted: 'metric' | 'series'): WindowDefinition | undefined =>
      sorted
        .filter((definition) => definition.by === wanted)
        .sort((a, b) => Math.abs(a.size_ms - size_ms) - Math.abs(b.size_ms - size_ms))[0];
    const lines = (['metric', 'series'] as const).map((kind) => ({
      value: kind,
      label: kind === 'metric' ? 'All devices' : 'Per device',
      isDisabled: nearest(kind) === undefined,
    }));
    segments('lines-choice', 'lines', lines, by, (kind) => this.#chooseWindow(nearest(kind as 'metric' | 'series')?.name ?? ''));
    const sizes = [...new Set(sorted.map((definition) => definition.size_ms))].map((sizeMs) => ({
      value: sorted.find((definition) => definition.by === by && definition.size_ms === sizeMs)?.name ?? `none-${sizeMs}`,
      label: formatWindowSize(sizeMs),
      isDisabled: !sorted.some((definition) => definition.by === by && definition.size_ms === sizeMs),
    }));
    segments('window-choice', 'window', sizes, view.window, (name) => this.#chooseWindow(name));
    const ranges = [...new Set([...rangesOf(this.#definition(view)), view.rangeMs])].sort((a, b) => a - b);
    byId('range-choice').replaceChildren(
      ...ranges.map((rangeMs) =>
        make('option', { value: String(rangeMs), selected: rangeMs === view.rangeMs }, `Last ${rangeWords(rangeMs).replace(/^1 /, '')}`),
      ),
    );
  }

  #drawSoon(): void {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#draw();
    });
  }

  #draw(): void {
    const view = this.#view;
    if (view === null) return;
    const definition = this.#definition(view);
    const { lines, hidden } = this.#rows.lines();
    const shown = lines.filter(({ key }) => !this.#hidden.has(key));
    const emptyText = this.#isLoaded ? `No readings of ${view.metric} in the last ${rangeWords(view.rangeMs)}.` : 'Loading…';
    this.#chart.show({
      lines,
      hidden: this.#hidden,
      sizeMs: definition.size_ms,
      rangeMs: view.rangeMs,
      emptyText,
      description: describe(view, definition, shown),
    });
    byId('key-band').hidden = shown.length > BANDS_MAX;
    this.#showLegend(lines, hidden);
    setText(byId('metric-heading'), view.metric);
    this.#showNow(shown);
    showWindows({ lines: shown, sizeMs: definition.size_ms, waitingFor: this.#waitingFor, nowMs: this.#clock.nowMs() });
  }

  #showNow(shown: readonly Line[]): void {
    const point = shown.length === 1 ? shown[0]?.points.at(-1) : undefined;
    const now = byId('metric-now');
    if (point === undefined) now.replaceChildren();
    else
      now.replaceChildren(
        make('b', {}, formatValue(point.mean)),
        ` mean of the newest window, ${formatValue(point.min)} to ${formatValue(point.max)}`,
      );
  }

  #showLegend(lines: readonly Line[], hidden: number): void {
    const legend = byId('legend');
    legend.hidden = lines.length < 2;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset['key'] : undefined;
    legend.replaceChildren(
      ...lines.map((line, index) => this.#legendButton(line, index)),
      ...(hidden > 0 ? [make('span', { class: 'dim' }, `and ${hidden} more series of these devices`)] : []),
    );
    if (focused !== undefined) [...legend.querySelectorAll('button')].find((button) => button.dataset['key'] === focused)?.focus();
  }

  #legendButton({ key, label, points }: Line, index: number): HTMLButtonElement {
    const swatch = make('i', { class: 'swatch' });
    swatch.style.background = lineColour(index);
    const button = make(
      'button',
      { type: 'button', 'aria-pressed': String(!this.#hidden.has(key)), 'data-key': key },
      swatch,
      make('span', {}, label),
      make('b', {}, formatValue(points.at(-1)?.mean ?? null)),
    );
    button.addEventListener('click', () => {
      if (!this.#hidden.delete(key)) this.#hidden.add(key);
      this.#draw();
    });
    return button;
  }
}

function segments(
  id: string,
  name: string,
  choices: readonly { value: string; label: string; isDisabled: boolean }[],
  chosen: string,
  onChoose: (value: string) => void,
): void {
  const host = byId(id);
  const hadFocus = host.contains(document.activeElement);
  host.replaceChildren(
    ...choices.map(({ value, label, isDisabled }) => {
      const input = make('input', { type: 'radio', name, value, checked: value === chosen, disabled: isDisabled });
      input.addEventListener('change', () => onChoose(value));
      return make('label', { title: isDisabled ? 'This hub has no such window' : null }, input, make('span', {}, label));
    }),
  );
  if (hadFocus) host.querySelector<HTMLInputElement>('input:checked')?.focus();
}

function rangeWords(rangeMs: number): string {
  if (rangeMs % 86_400_000 === 0) return plural(rangeMs / 86_400_000, 'day', 'days');
  if (rangeMs % 3_600_000 === 0) return plural(rangeMs / 3_600_000, 'hour', 'hours');
  return rangeMs % 60_000 === 0 ? plural(rangeMs / 60_000, 'minute', 'minutes') : formatDuration(rangeMs);
}

function describe({ metric, rangeMs }: View, definition: WindowDefinition, shown: readonly Line[]): string {
  const values = shown.map(({ label, points }) => `${label}: ${formatValue(points.at(-1)?.mean ?? null)}`).join('; ');
  return `Chart of ${metric}: mean of ${formatWindowSize(definition.size_ms)} windows over the last ${rangeWords(rangeMs)}. Newest values: ${values === '' ? 'none' : values}. The table below has the numbers.`;
}
