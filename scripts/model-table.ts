// Writes the tables of docs/models.md: towers, connectors and language models with their sizes and how far they are from their references, and the models
// that were built at full size. `--check` only compares, differences apart, which have to stay below 0.0001.
//   npx tsx scripts/model-table.ts [--check]
import { join } from 'node:path';
import { writeMadeParts } from './made-parts.ts';
import { connectorTable } from './model-table/connectors.ts';
import { withoutDifferences } from './model-table/difference.ts';
import { fullSizeTable } from './model-table/full-size.ts';
import { languageTable } from './model-table/languages.ts';
import { towerTable } from './model-table/towers.ts';

const docs = join(import.meta.dirname, '../docs');
const parts = {
  towers: await towerTable(),
  connectors: connectorTable(),
  'language models': await languageTable(),
  'full size': fullSizeTable(join(docs, 'results/full-size.json')),
};
writeMadeParts(join(docs, 'models.md'), parts, {
  check: process.argv.includes('--check'),
  command: 'npx tsx scripts/model-table.ts',
  compared: withoutDifferences,
});
