export { type Baseline, majorityBaseline, questionOnlyBaseline, scoreBaseline } from './baseline.ts';
export { answerSamples, type EvaluateOptions, evaluate, type Results, type TaskResult } from './evaluate.ts';
export { type Interval, mcnemar, type Paired, wilson } from './interval.ts';
export { markdown } from './report.ts';
export { readSamples } from './samples-file.ts';
export { exactMatch, meanByCategory } from './score.ts';
export type { Benchmark, Metric, Sample, Scored, Task, Verdict } from './task.ts';
export { tasks } from './tasks/index.ts';
