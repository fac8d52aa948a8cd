import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type ScoreResult, scoreAnswers } from '../../../src/evaluate/score-answers.ts';
import type { Profile, Sample, Task } from '../../../src/evaluate/task.ts';

/** Writes files below a folder: objects as JSON, lists under .jsonl as a line for each item, text as it is. */
export function writeFiles(folder: string, files: Readonly<Record<string, unknown>>): string {
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    const lines =
      name.endsWith('.jsonl') || /coco_pope/.test(name)
        ? (content as readonly unknown[]).map((row) => JSON.stringify(row)).join('\n')
        : undefined;
    writeFileSync(path, lines ?? (typeof content === 'string' ? content : JSON.stringify(content)));
  }
  return folder;
}

/** The samples of a folder, without what it costs to say each time. */
export async function samplesOf(task: Task, folder: string): Promise<readonly Sample[]> {
  return (await task.open(folder, { images: false })).samples;
}

/** Scores answers by id. */
export async function score(
  task: string,
  folder: string,
  answers: Readonly<Record<string, string>>,
  profile: Profile = 'official',
): Promise<ScoreResult> {
  const file = join(folder, `answers-${profile}.json`);
  writeFileSync(file, JSON.stringify(answers));
  return scoreAnswers(task, { answers: file, data: folder, profile });
}

/** The text that a task asks a sample with, and the images. */
export function asked(task: Pick<Task, 'prompt'>, sample: Sample): { text: string; images: unknown[] } {
  const [message] = task.prompt(sample);
  const parts = typeof message?.content === 'string' ? [] : (message?.content ?? []);
  return {
    text: parts.map((part) => (part.type === 'text' ? part.text : '')).join(''),
    images: parts.flatMap((part) => (part.type === 'image' ? [part.image] : [])),
  };
}
