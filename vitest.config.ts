import { defineConfig } from 'vitest/config';

// One process for every file: libtorch is loaded once and its threads do not compete for the cores.
export default defineConfig({
  test: { pool: 'forks', isolate: false, maxWorkers: 1, include: ['test/**/*.test.ts'], testTimeout: 60_000 },
});
