import type { Reporter, TestModule } from 'vitest/node';

/** Vitest's summary once more as one plain line, for programs that read only the last lines of a run. */
export default class PlainLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    let passed = 0;
    let failed = 0;
    let skipped = 0;
    for (const module of modules) {
      let tests = 0;
      for (const test of module.children.allTests()) {
        tests++;
        const state = test.result().state;
        if (state === 'passed') passed++;
        else if (state === 'failed') failed++;
        else skipped++;
      }
      // A file that does not load has no tests, and is a failure all the same.
      if (tests === 0 && !module.ok()) failed++;
    }
    // After the default reporter's own summary.
    setImmediate(() => process.stdout.write(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`));
  }
}
