import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // One process for every file: libtorch is loaded once and its threads do not compete for the cores.
    pool: 'forks',
    isolate: false,
    maxWorkers: 1,
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    // The tests' servers are here, whatever proxy leads elsewhere.
    env: { no_proxy: `127.0.0.1,${process.env['no_proxy'] ?? process.env['NO_PROXY'] ?? ''}` },
  },
});
