/** The page, wired: API → feed → tiles, tables, metric panel. */
import type { HubError } from '../../../shared/hub-client/sluice-hub.ts';
import { showAlerts } from './alert-table.ts';
import { Api } from './api.ts';
import { Attention } from './attention.ts';
import { catalogueOf, EMPTY_CATALOGUE, firstView } from './catalogue.ts';
import { Connection } from './connection.ts';
import { wireCopyButtons } from './copy-buttons.ts';
import { byId, setText } from './dom.ts';
import { showExceptions } from './exception-table.ts';
import { Feed } from './feed.ts';
import { showGateways } from './gateway-table.ts';
import { HubClock } from './hub-clock.ts';
import { MetricPanel } from './metric-panel.ts';
import { SameOverHttp } from './same-over-http.ts';
import { Tiles } from './tiles.ts';
import { TokenDialog } from './token-dialog.ts';
import { LINES_MAX, readView, sinceExpression, viewFilter, writeView, type View } from './view.ts';
import type { GatewaysAnswer, WindowDefinition } from './answers.ts';

class Page {
  readonly #connection: Connection;
  readonly #api: Api;
  readonly #tokens: TokenDialog;
  readonly #feed: Feed;
  readonly #clock = new HubClock();
  readonly #panel = new MetricPanel(this.#clock, (view) => this.#show(view, true));
  readonly #same: SameOverHttp;
  readonly #tiles = new Tiles();
  readonly #attention = new Attention();
  #definitions: readonly WindowDefinition[] = [];
  #catalogue = EMPTY_CATALOGUE;
  #view: View | null = null;
  #hasGateways = false;

  constructor() {
    this.#connection = new Connection((error) => this.#askToken(error));
    this.#api = new Api((error: HubError | null) => this.#connection.outcome(error));
    this.#same = new SameOverHttp(this.#api);
    this.#tokens = new TokenDialog((token) => {
      this.#api.setToken(token);
      this.#same.refresh();
      this.#feed.resume();
    });
    this.#feed = new Feed(
      this.#api,
      {
        definitions: (definitions) => {
          this.#definitions = definitions.filter(({ size_ms, slide_ms }) => size_ms === slide_ms);
          this.#panel.setDefinitions(this.#definitions);
        },
        gateways: (answer) => this.#showFleet(answer),
        alerts: (answer) => {
          showAlerts(answer, this.#clock.nowMs());
          this.#attention.show({ alerts: answer }, this.#clock.nowMs());
        },
        exceptions: (answer) => {
          showExceptions(answer, this.#clock.nowMs());
          this.#tiles.showExceptions(answer, this.#clock.nowMs());
          this.#attention.show({ exceptions: answer }, this.#clock.nowMs());
        },
        series: (answer) => {
          this.#catalogue = catalogueOf(answer);
          this.#panel.setCatalogue(this.#catalogue);
          this.#choose();
        },
        windows: (rows, waitingFor, isWhole) => this.#panel.addRows(rows, waitingFor, isWhole),
        streaming: (isStreaming) => this.#connection.streaming(isStreaming),
        tick: () => this.#tiles.tick(),
      },
      this.#clock,
    );
  }

  start(): void {
    wireCopyButtons();
    addEventListener('hashchange', () => this.#fromAddress());
    this.#feed.start();
  }

  #askToken({ status, message }: HubError): void {
    if (this.#tokens.isOpen) return;
    this.#feed.pause();
    const hadToken = this.#api.hasToken;
    this.#api.setToken(null);
    // 403: the hub's words say what else is wrong (a gateway's token, another name than localhost).
    this.#tokens.ask(status === 403 ? message : hadToken ? 'The hub does not know this token.' : null);
  }

  #showFleet(answer: GatewaysAnswer): void {
    this.#hasGateways = answer.rows.length > 0;
    this.#tiles.showHub(answer);
    showGateways(answer);
    this.#attention.show({ gateways: answer }, this.#clock.nowMs());
  }

  /** The first view, as soon as there is something to look at. */
  #choose(): void {
    const isEmpty = this.#catalogue.metrics.size === 0 && this.#view === null;
    byId('empty').hidden = !isEmpty;
    if (isEmpty) this.#showEmpty();
    if (this.#view !== null) return;
    const view = firstView(this.#catalogue, this.#definitions, readView(location.hash), this.#clock.nowMs());
    if (view !== null) this.#show(view, false);
  }

  #showEmpty(): void {
    setText(
      byId('empty-text'),
      this.#hasGateways
        ? 'A gateway is connected and has nothing to send. Publish a reading to it over MQTT, here from the gateway’s own machine:'
        : 'Start a gateway that points here, then publish a reading to it over MQTT. With the demo (npm start) both run already:',
    );
    setText(byId('empty-command'), `mosquitto_pub -h localhost -p 1883 -q 1 -t devices/my-device/telemetry -m '{"temperature": 21.5}'`);
  }

  #fromAddress(): void {
    const wanted = readView(location.hash);
    // The link that skips to the content changes the address as well.
    if (wanted.metric === undefined) return;
    const view = firstView(this.#catalogue, this.#definitions, wanted, this.#clock.nowMs());
    if (view !== null) this.#show(view, false);
  }

  /** @param isChoice the reader chose it: the way back leads to the view before */
  #show(view: View, isChoice: boolean): void {
    this.#view = view;
    const hash = writeView(view);
    if (hash !== location.hash) history[isChoice ? 'pushState' : 'replaceState'](null, '', hash);
    document.title = `${view.metric} · Sluice hub`;
    this.#panel.setView(view);
    const filter = viewFilter(view, this.#devicesOf(view));
    const from = sinceExpression(view.rangeMs);
    this.#feed.watch({ filter, from });
    this.#same.show({ ...filter, from });
  }

  /** null: the window has no devices to choose from. */
  #devicesOf(view: View): readonly string[] | null {
    if (this.#definitions.find(({ name }) => name === view.window)?.by !== 'series') return null;
    if (view.device !== null) return [view.device];
    const devices = this.#catalogue.metrics.get(view.metric)?.devices ?? [];
    return devices.length === 0 ? null : devices.slice(0, LINES_MAX);
  }
}

new Page().start();
