/** The build's last step: the files of the page that no compiler makes go beside its script in dist/hub/web. */
import { copyFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

// This file runs as dist/hub/web/copy-assets.js.
const webDir = path.dirname(fileURLToPath(import.meta.url));
const repositoryRoot = path.resolve(webDir, '../../..');

const ASSETS = ['hub/web/index.html', 'hub/web/app.css', 'hub/web/icon.svg', 'node_modules/uplot/dist/uPlot.min.css'];

mkdirSync(webDir, { recursive: true });
for (const asset of ASSETS) copyFileSync(path.join(repositoryRoot, asset), path.join(webDir, path.basename(asset)));
