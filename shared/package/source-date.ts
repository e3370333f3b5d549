import { runTool } from './tools.ts';

/** Seconds since the epoch of the source: SOURCE_DATE_EPOCH if set, else of the last commit. @throws SluiceError ERR_PACKAGE_BUILD */
export async function sourceDate(root: string): Promise<number> {
  const { SOURCE_DATE_EPOCH: given } = process.env;
  if (given !== undefined && /^\d+$/.test(given)) return Number(given);
  return Number((await runTool('git', ['log', '-1', '--format=%ct'], { cwd: root })).trim());
}
