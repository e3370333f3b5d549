/** Buttons with data-copies="ID" copy the text of that element. */
import { byId } from './dom.ts';

const SHOWN_MS = 1_500;

export function wireCopyButtons(): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>('[data-copies]')) {
    button.addEventListener('click', () => void copy(button, byId(button.dataset['copies'] ?? '')));
  }
}

async function copy(button: HTMLButtonElement, source: HTMLElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(source.textContent ?? '');
    button.textContent = 'Copied';
    setTimeout(() => (button.textContent = 'Copy'), SHOWN_MS);
  } catch {
    // Plain http from another machine has no clipboard: select it, so that Ctrl-C does.
    getSelection()?.selectAllChildren(source);
  }
}
