/** ClickHouse in a package: delta-kernel and a Parquet reader that nobody here wrote. Optional: 556 MB, x64 Linux only. */
export interface Chdb {
  query(sql: string, format: string): string;
}

export async function loadChdb(): Promise<Chdb | null> {
  const name: string = 'chdb'; // typed as string: the package is not there for the type checker
  try {
    return (await import(name)) as Chdb;
  } catch {
    console.log('chdb is not installed, its checks are skipped (npm install --no-save chdb@3.4.0)');
    return null;
  }
}
