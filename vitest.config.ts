import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{shared,gateway,hub,firmware-sim,test}/**/*.test.ts'],
    // Real processes, brokers and disks on two cores: generous, so that only a hang is a time-out.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // Tests of real processes mostly wait: on two cores three files at a time cost little and save half of the time.
    maxWorkers: 3,
    reporters: ['default', './test/plain-line-reporter.ts'],
  },
});
