/** Child process of local-store.test.ts: tries to create every key of a range, prints the ones that it created. */
import { LocalStore } from './local-store.ts';

const [directory, name, count] = process.argv.slice(2) as [string, string, string];
const store = await LocalStore.open(directory);
const created: number[] = [];
for (let index = 0; index < Number(count); index++) {
  if ((await store.putIfAbsent(`race/${index}`, new TextEncoder().encode(name))) === 'created') created.push(index);
}
process.stdout.write(JSON.stringify(created));
