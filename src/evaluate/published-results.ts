import type { Results } from './evaluate.ts';
import { markdownRow } from './markdown-row.ts';
import type { Profile } from './task.ts';

/** Where rows were published. */
const sources = {
  factory: 'TinyLLaVA Factory, README (github.com/TinyLLaVA/TinyLLaVA_Factory)',
  paper: 'Zhou et al. 2024, arXiv:2402.14289, table A1',
  llava: 'LLaVA-1.5, docs/MODEL_ZOO.md (github.com/haotian-liu/LLaVA)',
  lmms: 'the share model of TinyLLaVA by lmms-eval (pull request 114)',
} as const;

/** A column of published tables: what it is called there, and which number of which task it is. */
interface PublishedColumn {
  readonly name: string;
  readonly task: string;
  readonly metric: string;
}

/** The columns, in the order of the tables. */
const publishedColumns: readonly PublishedColumn[] = [
  { name: 'VQAv2', task: 'vqav2', metric: 'accuracy' },
  { name: 'GQA', task: 'gqa', metric: 'accuracy' },
  { name: 'SQA-I', task: 'scienceqa', metric: 'image accuracy' },
  { name: 'TextVQA', task: 'textvqa-ocr', metric: 'accuracy' },
  { name: 'MM-Vet', task: 'mm-vet', metric: 'total' },
  { name: 'POPE', task: 'pope', metric: 'mean F1' },
  { name: 'LLaVA-W', task: 'llava-bench', metric: 'all' },
  { name: 'MME', task: 'mme', metric: 'perception' },
  { name: 'MMB', task: 'mmbench-en', metric: 'circular' },
  { name: 'MMMU', task: 'mmmu', metric: 'accuracy' },
  { name: 'VizWiz', task: 'vizwiz', metric: 'accuracy' },
];

/** What was published of one model; a dash stands for a number that was not. */
export interface PublishedRow {
  readonly model: string;
  readonly source: string;
  readonly profile: Profile;
  /** By the column's name. */
  readonly values: Readonly<Record<string, number>>;
}

const factoryColumns = ['VQAv2', 'GQA', 'SQA-I', 'TextVQA', 'MM-Vet', 'POPE', 'MME', 'MMMU'];
const factory = `
CLIP / OpenELM-450M, base | 69.5 52.1 50.6 40.4 20.0 83.6 1052.9 23.9
SigLIP / OpenELM-450M, base | 71.7 53.9 54.1 44.0 20.0 85.4 1118.8 24.0
SigLIP / Qwen2-0.5B, base | 72.3 55.8 60.1 45.2 19.5 86.6 1153.0 29.7
SigLIP / Qwen2.5-0.5B, base | 75.3 59.5 60.3 48.3 23.9 86.1 1253.0 33.3
SigLIP / Qwen2.5-3B, base | 79.4 62.5 74.1 58.3 34.8 87.4 1438.7 39.9
CLIP / TinyLlama-1.1B, base | 73.7 58.0 59.9 46.3 23.2 85.5 1284.6 27.9
SigLIP / TinyLlama-1.1B, base | 75.5 58.6 64.0 49.6 23.5 86.3 1256.5 28.3
CLIP / StableLM-2-1.6B, base | 75.9 59.5 64.6 50.5 27.3 86.1 1368.1 31.8
SigLIP / StableLM-2-1.6B, base | 78.2 60.7 66.7 56.0 29.4 86.3 1319.3 32.6
SigLIP / Gemma-2b-it, base | 78.4 61.6 64.4 53.6 26.9 86.4 1339.0 31.7
CLIP / Phi-2, base | 76.8 59.4 71.2 53.4 31.7 86.8 1448.6 36.3
SigLIP / Phi-2, base | 79.2 61.6 71.9 57.4 35.0 87.2 1462.4 38.2
SigLIP / Phi-2, base with LoRA | 77.6 59.7 71.6 53.8 33.3 87.9 1413.2 35.6
SigLIP / Phi-2, share | 80.1 62.1 73.0 60.3 37.5 87.2 1466.4 38.4
`;

const paperColumns = ['VQAv2', 'GQA', 'SQA-I', 'TextVQA', 'MM-Vet', 'POPE', 'LLaVA-W', 'MME', 'MMB'];
const paper = `
CLIP / TinyLlama-1.1B, base | 74.0 58.1 60.2 45.8 20.6 85.9 55.8
CLIP / TinyLlama-1.1B, share | 75.2 59.4 58.8 48.1 25.1 85.9 55.6
SigLIP / TinyLlama-1.1B, base | 75.8 58.6 60.2 49.1 24.1 87.1 59.0
SigLIP / TinyLlama-1.1B, share | 76.9 60.3 60.1 51.7 25.8 86.1 60.8
CLIP / StableLM-2-1.6B, base | 74.9 58.9 62.8 49.5 25.0 85.8 55.4
CLIP / StableLM-2-1.6B, share | 76.3 60.3 63.1 51.6 29.3 85.4 59.5
SigLIP / StableLM-2-1.6B, base | 78.1 61.1 62.8 54.1 29.5 86.9 59.8
SigLIP / StableLM-2-1.6B, share | 78.9 61.9 64.7 56.4 32.6 86.5 66.4
CLIP / Phi-2, base | 76.6 60.3 69.6 51.4 30.7 86.8 67.1
CLIP / Phi-2, share | 77.7 61.0 70.1 53.5 31.7 86.3 67.1 1437.3 68.3
SigLIP / Phi-2, base | 79.2 61.3 69.9 55.6 32.1 87.1 67.9
SigLIP / Phi-2, share | 79.9 62.0 69.1 59.1 32.0 86.4 75.8 1464.9 66.9
`;

const llavaColumns = ['VQAv2', 'GQA', 'VizWiz', 'SQA-I', 'TextVQA', 'POPE', 'MME', 'MMB', 'MM-Vet'];
const llava = `
LLaVA-1.5-7B | 78.5 62.0 50.0 66.8 58.2 85.9 1510.7 64.3 31.1
LLaVA-1.5-7B with LoRA | 79.1 63.0 47.8 68.4 58.2 86.4 1476.9 66.1 30.2
LLaVA-1.5-13B | 80.0 63.3 53.6 71.6 61.3 85.9 1531.3 67.7 36.1
LLaVA-1.5-13B with LoRA | 80.0 63.3 58.9 71.2 60.2 86.7 1541.7 68.5 38.3
`;

// lmms-eval asks TextVQA without the words of an OCR system, VQAv2 on val.
const lmmsColumns = ['MME', 'MMMU', 'MM-Vet', 'POPE', 'SQA-I', 'TextVQA', 'GQA', 'VQAv2'];
const lmms = 'SigLIP / Phi-2, share | 1467.0 38.6 34.5 87.3 72.9 55.8 62.2 78.2';

function rows(table: string, columns: readonly string[], source: keyof typeof sources): PublishedRow[] {
  return table
    .trim()
    .split('\n')
    .map((line) => {
      const [model = '', numbers = ''] = line.split(' | ');
      const values = numbers.split(' ').map((value, i) => [columns[i] ?? '', Number(value)] as const);
      return { model, source: sources[source], profile: source === 'lmms' ? 'lmms-eval' : 'official', values: Object.fromEntries(values) };
    });
}

/** Published results of small multimodal models, to lay one's own beside. */
export const publishedResults: readonly PublishedRow[] = [
  ...rows(factory, factoryColumns, 'factory'),
  ...rows(paper, paperColumns, 'paper'),
  ...rows(llava, llavaColumns, 'llava'),
  ...rows(lmms, lmmsColumns, 'lmms'),
];

/** The numbers of a run that published tables have, by their columns. */
function ownValues({ tasks }: Pick<Results, 'tasks'>, profile: Profile): Record<string, number> {
  const found = publishedColumns.flatMap(({ name, task, metric }) => {
    // lmms-eval's TextVQA is the one without the words of an OCR system.
    const result = tasks[name === 'TextVQA' && profile === 'lmms-eval' ? 'textvqa' : task];
    const headline = profile === 'lmms-eval' && task === 'pope' ? 'F1' : metric;
    const one = result?.metrics.find((other) => other.name === headline);
    return one ? [[name, (one.max ?? 1) === 1 ? one.value * 100 : one.value] as const] : [];
  });
  return Object.fromEntries(found);
}

/** A run beside published results of the same profile, as a Markdown table in the shape of the paper's; undefined for a run that has none of their tasks. */
export function besidePublished(results: Pick<Results, 'tasks' | 'settings'>, name = 'this run'): string | undefined {
  const { profile, limit } = results.settings;
  const own = ownValues(results, profile);
  const columns = publishedColumns.map((column) => column.name).filter((column) => column in own);
  if (columns.length === 0) return undefined;
  const beside = publishedResults.filter((row) => row.profile === profile && columns.some((column) => column in row.values));
  const line = (first: string, values: Readonly<Record<string, number>>): string =>
    markdownRow([first, ...columns.map((column) => values[column]?.toFixed(1) ?? '-')]);
  const used = Object.values(sources).filter((source) => beside.some((row) => row.source === source));
  const number = (source: string): number => (used as readonly string[]).indexOf(source) + 1;
  return [
    markdownRow(['model', ...columns]),
    `| --- |${' ---: |'.repeat(columns.length)}`,
    line(limit === undefined ? `**${name}**` : `**${name}, the first ${limit} questions**`, own),
    ...beside.map((row) => line(`${row.model} [${number(row.source)}]`, row.values)),
    '',
    ...used.map((source, i) => `[${i + 1}] ${source}.`),
  ].join('\n');
}
