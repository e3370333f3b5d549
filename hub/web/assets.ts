/** The files of the page that no compiler makes. */
import { copyFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';

const ASSETS = [
  'hub/web/index.html',
  'hub/web/docs.html',
  'hub/web/app.css',
  'hub/web/icon.svg',
  'node_modules/uplot/dist/uPlot.min.css',
  'node_modules/swagger-ui-dist/swagger-ui-bundle.js',
  'node_modules/swagger-ui-dist/swagger-ui.css',
];

/** Into one flat folder: that is how the hub serves them. */
export function copyAssets(repositoryRoot: string, webDir: string): void {
  mkdirSync(webDir, { recursive: true });
  for (const asset of ASSETS) copyFileSync(path.join(repositoryRoot, asset), path.join(webDir, path.basename(asset)));
}
