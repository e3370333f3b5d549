#!/usr/bin/env node
/** `sluice-gateway`: holds the heap before anything is loaded; the rest is in command-line.ts. */
import { holdHeap } from './heap-bounds.ts';

holdHeap();
await import('./command-line.ts');
