import { describe, expect, test } from 'vitest';
import type { Results, TaskResult } from '../../src/evaluate/evaluate.ts';
import { hallucinationTable } from '../../src/evaluate/hallucination.ts';
import { besidePublished, publishedResults } from '../../src/evaluate/published-results.ts';
import { markdown } from '../../src/evaluate/report.ts';
import type { Metric, Profile } from '../../src/evaluate/task.ts';

const metric = (name: string, value: number, max?: number): Metric => ({
  name,
  value,
  count: 10,
  interval: { low: value * 0.9, high: value },
  ...(max !== undefined && { max }),
});

function results(tasks: Readonly<Record<string, readonly Metric[]>>, profile: Profile = 'official'): Results {
  const task = (metrics: readonly Metric[]): TaskResult => ({
    metrics,
    baselines: {},
    samples: 10,
    failures: 0,
    seconds: 1,
    maxNewTokens: 8,
    dataSha256: '',
  });
  return {
    version: '1',
    node: '20',
    settings: { batchSize: 1, dtype: 'float32', device: 'cpu', template: '', profile },
    tasks: Object.fromEntries(Object.entries(tasks).map(([name, metrics]) => [name, task(metrics)])),
  };
}

describe('published results', () => {
  test('have a number in each column that they name, within its bounds', () => {
    expect(publishedResults).toHaveLength(31);
    for (const { model, values } of publishedResults) {
      for (const [column, value] of Object.entries(values)) {
        const fits = column === 'MME' ? value > 500 && value < 2000 : value > 10 && value < 100;
        expect([model, column, value, fits]).toEqual([model, column, value, true]);
      }
    }
    const share = publishedResults.find(({ model, source }) => model === 'SigLIP / Phi-2, share' && source.includes('Factory'));
    expect(share?.values).toEqual({
      VQAv2: 80.1,
      GQA: 62.1,
      'SQA-I': 73,
      TextVQA: 60.3,
      'MM-Vet': 37.5,
      POPE: 87.2,
      MME: 1466.4,
      MMMU: 38.4,
    });
  });

  test('stand beside a run of the same profile, in the columns that the run has', () => {
    const lines =
      besidePublished(results({ pope: [metric('mean F1', 85.9, 100)], mme: [metric('perception', 1500.25, 2000)] }))?.split('\n') ?? [];
    expect(lines.slice(0, 4)).toEqual([
      '| model | POPE | MME |',
      '| --- | ---: | ---: |',
      '| **this run** | 85.9 | 1500.3 |',
      '| CLIP / OpenELM-450M, base [1] | 83.6 | 1052.9 |',
    ]);
    expect(lines).toContain('| CLIP / TinyLlama-1.1B, base [2] | 85.9 | - |');
    expect(lines.at(-1)).toContain('[3] LLaVA-1.5');
    expect(lines.join('\n')).not.toContain('lmms-eval');
    const { settings, tasks } = results({ pope: [metric('mean F1', 85.9, 100)] });
    expect(besidePublished({ settings: { ...settings, limit: 100 }, tasks })).toContain('| **this run, the first 100 questions** | 85.9 |');
  });

  test("take lmms-eval's numbers for its profile, and nothing for other tasks", () => {
    const table = besidePublished(results({ textvqa: [metric('accuracy', 50, 100)], pope: [metric('F1', 0.85)] }, 'lmms-eval'));
    expect(table).toContain('| **this run** | 50.0 | 85.0 |');
    expect(table).toContain('| SigLIP / Phi-2, share [1] | 55.8 | 87.3 |');
    expect(besidePublished(results({ vqa: [metric('all', 0.5)] }))).toBeUndefined();
  });
});

describe('hallucination', () => {
  const first = results({
    pope: [metric('mean F1', 86, 100), metric('adversarial yes ratio', 0.5)],
    'amber-generative': [metric('CHAIR', 8, 100)],
    'amber-discriminative': [metric('F1', 80, 100)],
  });

  test("is one table of all benchmarks and runs, with AMBER's own score", () => {
    expect(hallucinationTable({ small: first, large: results({ pope: [metric('mean F1', 88, 100)] }) })).toMatchInlineSnapshot(`
      "| hallucination | small | large |
      | --- | ---: | ---: |
      | POPE F1 ↑ | 86.0 (77.4 - 86.0) | 88.0 (79.2 - 88.0) |
      | POPE yes, adversarial | 50.0 (45.0 - 50.0) | - |
      | AMBER CHAIR ↓ | 8.0 (7.2 - 8.0) | - |
      | AMBER F1 ↑ | 80.0 (72.0 - 80.0) | - |
      | AMBER score ↑ | 86.0 | - |"
    `);
    expect(hallucinationTable({ none: results({ vqa: [metric('all', 1)] }) })).toBeUndefined();
  });

  test('has its place in the report once there are two benchmarks of it', () => {
    expect(markdown(first)).toContain('## Hallucination');
    expect(markdown(results({ pope: [metric('mean F1', 86, 100)] }))).not.toContain('## Hallucination');
    expect(markdown(first)).toContain('## Beside published results');
  });
});
