import { readFileSync } from 'node:fs';
import type { FullSize } from '../../bench/full-size.ts';

const gigabytes = (bytes = Number.NaN): string => (bytes / 1e9).toFixed(1);
const seconds = (value = Number.NaN): string => value.toFixed(0);

/** The table of models built at full size, out of what bench/full-size.ts wrote. */
export function fullSizeTable(file: string): string {
  const { models, machine } = JSON.parse(readFileSync(file, 'utf8')) as { machine: string; models: readonly FullSize[] };
  const rows = models.map(({ tower, language, build, ask, train }) => {
    const shown = [
      `${language}, ${tower}`,
      (build['parameters'] ?? 0).toLocaleString('en'),
      gigabytes(build['fileBytes']),
      `${gigabytes(build['peakBytes'])}; ${seconds((build['initializeSeconds'] ?? 0) + (build['saveSeconds'] ?? 0))}`,
      `${gigabytes(ask['peakBytes'])}; ${seconds((ask['openSeconds'] ?? 0) + (ask['answerSeconds'] ?? 0))}`,
      `${gigabytes(train['peakBytes'])}; ${seconds(train['stepSeconds'])}`,
    ];
    return `| ${shown.join(' | ')} |`;
  });
  return [
    '| model | parameters | file, GB | made and saved: GB; s | opened and asked: GB; s | one step: GB; s |',
    '|---|---|---|---|---|---|',
    ...rows,
    '',
    `Measured on ${machine} beside other work, so the seconds say only of what order they are.`,
  ].join('\n');
}
