/** Small hands for the DOM: text never becomes markup here. */

export type Child = Node | string | null;

export interface Attributes {
  readonly [name: string]: string | boolean | null;
}

/** @throws Error if index.html has no such element: page and script are of two builds */
export function byId(id: string): HTMLElement;
export function byId<T extends HTMLElement>(id: string, type: new () => T): T;
export function byId(id: string, type: new () => HTMLElement = HTMLElement): HTMLElement {
  const element = document.getElementById(id);
  if (element instanceof type) return element;
  throw new Error(`the page has no ${type.name} #${id}`);
}

/** @param attributes null and false: without the attribute; true: the empty attribute */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes,
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Writes only what changed, so that selections and screen readers are left alone. */
export function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export interface Cell {
  readonly content: Child | readonly Child[];
  /** Also the cell's heading where the table is stacked on a phone. */
  readonly label: string;
  readonly number?: boolean;
  /** Left out where the screen is narrow. */
  readonly isMinor?: boolean;
  readonly title?: string;
}

/**
 * One row of a table; its first cell is the row's heading.
 *
 * Roles are said out loud because a stacked table (display: block) loses those of its elements.
 */
export function tableRow(cells: readonly Cell[]): HTMLTableRowElement {
  const row = make('tr', { role: 'row' });
  cells.forEach(({ content, label, number, isMinor, title }, index) => {
    const attributes = {
      class: [number === true ? 'number' : '', isMinor === true ? 'minor' : ''].join(' ').trim() || null,
      title: title ?? null,
      'data-label': label,
    };
    const children = Array.isArray(content) ? (content as Child[]) : [content as Child];
    row.append(
      index === 0
        ? make('th', { ...attributes, scope: 'row', role: 'rowheader' }, ...children)
        : make('td', { ...attributes, role: 'cell' }, make('span', {}, ...children)),
    );
  });
  return row;
}

/** Replaces the rows unless nothing changed: a selection inside survives. */
export function setRows(body: HTMLElement, rows: readonly HTMLElement[]): void {
  const next = make('tbody', {}, ...rows);
  if (next.innerHTML !== body.innerHTML) body.replaceChildren(...rows);
}

export function badge(text: string, tone: 'good' | 'warn' | 'bad' | 'plain'): HTMLElement {
  return make('span', { class: `badge ${tone}` }, text);
}
