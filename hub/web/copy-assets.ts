/** The build's last step; runs as dist/hub/web/copy-assets.js. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { copyAssets } from './assets.ts';

const webDir = path.dirname(fileURLToPath(import.meta.url));
copyAssets(path.resolve(webDir, '../../..'), webDir);
