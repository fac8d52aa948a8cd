import { duration, percent } from '../../evaluate/html/format.ts';
import { wrap } from '../quickstart/status-line.ts';
import type { CaptionTable, DemoResult } from './demo.ts';

const plain = (text: string): string => text.replaceAll('\u00a0', ' ');

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function captionRows(captions: readonly CaptionTable[]): string[][] {
  const cells = ({ noun, cider }: CaptionTable['model']): string => `${plain(percent(noun.value))} ${cider.toFixed(2)}`;
  const names = Object.keys(captions[0]?.baselines ?? {});
  return [
    ['right nouns, CIDEr-D', 'pictures', 'model', ...names],
    ...captions.map(({ name, model, baselines }) => [name, String(model.count), cells(model), ...Object.values(baselines).map(cells)]),
  ];
}

/** What a person reads when the demo is done. */
export function demoSummary(result: DemoResult, { columns, command }: { readonly columns: number; readonly command: string }): string {
  const { captions, shapes, examples, seconds, checkpoint, report, note } = result;
  const folded = (text: string): string => wrap(text, columns);
  const baselines = Object.keys(shapes[0]?.baselines ?? {});
  const shapeRows = [
    ['right answers of easy-VQA', 'questions', 'model', ...baselines],
    ...shapes.map((score) => [
      score.name,
      String(score.count),
      plain(percent(score.accuracy.value)),
      ...baselines.map((name) => plain(percent(score.baselines[name] ?? 0))),
    ]),
  ];
  const [first] = examples;
  return [
    '',
    folded('Captions of pictures that it has not seen, of things of which it has seen no other picture:'),
    '',
    table(captionRows(captions)),
    '',
    table(shapeRows),
    ...(note === undefined ? [] : ['', folded(note)]),
    '',
    ...examples.map(({ answer, truth, correct }) => folded(`${correct ? 'right' : 'WRONG'}: ${answer} (caption: ${truth})`)),
    '',
    folded(`${duration(seconds.training)} of training, ${duration(seconds.evaluation)} of evaluation, ${duration(seconds.all)} in all.`),
    '',
    'Look at the report:',
    `  ${report}`,
    'Ask, talk:',
    `  ${command} ask ${checkpoint} --image ${first?.image ?? 'FILE'} "${first?.question ?? 'What is in the picture?'}"`,
    `  ${command} chat ${checkpoint}`,
  ].join('\n');
}
