/** A text field that narrows a list (the combobox pattern of the ARIA Authoring Practices, list autocomplete). */
import { make } from './dom.ts';

export interface Choice {
  readonly value: string;
  readonly label: string;
  readonly note: string;
}

/** Nobody reads further; typing narrows. */
const SHOWN_MAX = 50;

export class Combobox {
  readonly #input: HTMLInputElement;
  readonly #list: HTMLUListElement;
  readonly #onPick: (value: string) => void;
  #choices: readonly Choice[] = [];
  #shown: readonly Choice[] = [];
  #isPartial = false;
  #active = -1;
  #value = '';

  constructor(host: HTMLElement, id: string, label: string, placeholder: string, onPick: (value: string) => void) {
    this.#onPick = onPick;
    this.#input = make('input', {
      id,
      type: 'text',
      role: 'combobox',
      autocomplete: 'off',
      spellcheck: 'false',
      placeholder,
      'aria-autocomplete': 'list',
      'aria-expanded': 'false',
      'aria-controls': `${id}-list`,
    });
    this.#list = make('ul', { id: `${id}-list`, class: 'listbox', role: 'listbox', 'aria-label': label, hidden: true });
    host.replaceChildren(make('label', { for: id }, label), this.#input, this.#list);
    this.#input.addEventListener('focus', () => this.#input.select());
    this.#input.addEventListener('click', () => this.#open(''));
    this.#input.addEventListener('input', () => this.#open(this.#input.value));
    this.#input.addEventListener('keydown', (event) => this.#key(event));
    this.#input.addEventListener('blur', () => this.#close());
    // mousedown, not click: the field must not lose its focus before.
    this.#list.addEventListener('mousedown', (event) => {
      event.preventDefault();
      const option = (event.target as HTMLElement).closest('[data-index]');
      if (option !== null) this.#pick(Number(option.getAttribute('data-index')));
    });
  }

  /**
   * @param value the one that is chosen now
   * @param isPartial there are more than these: what is typed is a choice as well
   */
  set(choices: readonly Choice[], value: string, isPartial: boolean): void {
    this.#choices = choices;
    this.#isPartial = isPartial;
    this.#value = value;
    if (document.activeElement !== this.#input) this.#input.value = this.#labelOf(value);
  }

  #labelOf(value: string): string {
    return this.#choices.find((choice) => choice.value === value)?.label ?? value;
  }

  #open(filter: string): void {
    const wanted = filter.trim().toLowerCase();
    const matching = this.#choices.filter(({ label }) => label.toLowerCase().includes(wanted));
    const typed = filter.trim();
    const others =
      this.#isPartial && typed !== '' && !matching.some(({ value }) => value === typed)
        ? [{ value: typed, label: typed, note: 'not listed' }]
        : [];
    this.#shown = [...matching.slice(0, SHOWN_MAX), ...others];
    this.#active = Math.max(
      0,
      this.#shown.findIndex(({ value }) => value === this.#value),
    );
    const options = this.#shown.map((choice, index) =>
      make(
        'li',
        { id: `${this.#input.id}-${index}`, role: 'option', 'data-index': String(index), 'aria-selected': 'false' },
        make('span', {}, choice.label),
        make('small', {}, choice.note),
      ),
    );
    const rest = matching.length - SHOWN_MAX;
    const last = rest > 0 ? `${rest} more: type to narrow` : this.#shown.length === 0 ? 'Nothing has this name' : null;
    this.#list.replaceChildren(...options, ...(last === null ? [] : [make('li', { class: 'more', role: 'presentation' }, last)]));
    this.#list.hidden = false;
    this.#input.setAttribute('aria-expanded', 'true');
    this.#mark();
  }

  #close(): void {
    this.#list.hidden = true;
    this.#input.setAttribute('aria-expanded', 'false');
    this.#input.removeAttribute('aria-activedescendant');
    this.#input.value = this.#labelOf(this.#value);
  }

  #mark(): void {
    [...this.#list.querySelectorAll('[data-index]')].forEach((option, index) => {
      option.setAttribute('aria-selected', String(index === this.#active));
      if (index === this.#active) option.scrollIntoView({ block: 'nearest' });
    });
    if (this.#shown.length > 0) this.#input.setAttribute('aria-activedescendant', `${this.#input.id}-${this.#active}`);
    else this.#input.removeAttribute('aria-activedescendant');
  }

  #key(event: KeyboardEvent): void {
    const isOpen = !this.#list.hidden;
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      if (!isOpen) return this.#open('');
      const step = event.key === 'ArrowDown' ? 1 : -1;
      const count = Math.max(1, this.#shown.length);
      this.#active = (this.#active + step + count) % count;
      this.#mark();
    } else if (event.key === 'Enter' && isOpen) {
      event.preventDefault();
      this.#pick(this.#active);
    } else if (event.key === 'Escape' && isOpen) {
      event.preventDefault();
      this.#close();
    }
  }

  #pick(index: number): void {
    const choice = this.#shown[index];
    if (choice === undefined) return;
    this.#value = choice.value;
    this.#close();
    this.#onPick(choice.value);
  }
}
