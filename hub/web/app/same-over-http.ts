/** What is on the screen as a command line and as a file. */
import { apiPath, type Api, type Parameters } from './api.ts';
import { byId, setText } from './dom.ts';

export class SameOverHttp {
  readonly #api: Api;
  #parameters: Parameters = {};

  constructor(api: Api) {
    this.#api = api;
    byId('csv-link').addEventListener('click', (event) => {
      if (!this.#api.hasToken) return;
      // A link carries no token: fetched here and handed over as a file.
      event.preventDefault();
      void this.#save();
    });
  }

  show(parameters: Parameters): void {
    this.#parameters = parameters;
    byId('api-panel').hidden = false;
    const csv = byId('csv-link', HTMLAnchorElement);
    csv.href = this.#csvPath();
    csv.download = this.#fileName();
    const url = new URL(apiPath('v1/aggregates', parameters), location.href);
    const token = this.#api.hasToken ? ' -H "Authorization: Bearer $SLUICE_TOKEN"' : '';
    // In single quotes nothing means anything to a shell but the quote itself.
    setText(byId('curl-line'), `curl -s${token} '${url.origin}${url.pathname}${decodeQuery(url.search).replaceAll("'", "'\\''")}'`);
    byId('api-links').hidden = this.#api.hasToken;
  }

  /** A token was set: the command line has to send it as well. */
  refresh(): void {
    if (!byId('api-panel').hidden) this.show(this.#parameters);
  }

  #csvPath(): string {
    return apiPath('v1/aggregates', { ...this.#parameters, format: 'csv', limit: '10000' });
  }

  #fileName(): string {
    return `${(this.#parameters['metric'] ?? 'windows').replaceAll(/[^\w.-]+/g, '_')}-${this.#parameters['window'] ?? ''}.csv`;
  }

  async #save(): Promise<void> {
    const url = URL.createObjectURL(await this.#api.blob(this.#csvPath()));
    const link = document.createElement('a');
    link.href = url;
    link.download = this.#fileName();
    link.click();
    URL.revokeObjectURL(url);
  }
}

/** URL parsing escapes what it need not. */
function decodeQuery(search: string): string {
  return search.replaceAll('%2C', ',').replaceAll('%3A', ':');
}
