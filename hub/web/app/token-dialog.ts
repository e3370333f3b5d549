/** Asks for a read token when the hub wants one. */
import { byId, setText } from './dom.ts';

export class TokenDialog {
  readonly #dialog = byId('token-dialog', HTMLDialogElement);
  readonly #input = byId('token-input', HTMLInputElement);
  readonly #error = byId('token-error');

  /** @param onToken gets what was typed; the dialog is closed by then */
  constructor(onToken: (token: string) => void) {
    byId('token-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      const token = this.#input.value.trim();
      if (token === '') return;
      this.#input.value = '';
      this.#dialog.close();
      onToken(token);
    });
    // Without a token there is nothing to see behind it.
    this.#dialog.addEventListener('cancel', (event) => event.preventDefault());
  }

  get isOpen(): boolean {
    return this.#dialog.open;
  }

  /** @param error why the last token was not good; null: none was tried */
  ask(error: string | null): void {
    if (this.#dialog.open) return;
    this.#error.hidden = error === null;
    setText(this.#error, error ?? '');
    this.#dialog.showModal();
    this.#input.focus();
  }
}
