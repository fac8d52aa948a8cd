import { ChatModel } from '../generate/generate.ts';
import { contentParts, type Message } from '../processor/message.ts';
import { grouped } from './bootstrap.ts';
import { strip } from './python.ts';
import { ModelRespondent } from './respondent/model.ts';
import type { Question, Respondent } from './respondent/respondent.ts';
import type { Sample, Scored, Task } from './task.ts';

/** A sample with what came of it, and its number. */
interface Numbered<S extends Sample> {
  readonly index: number;
  readonly scored: Scored<S>;
}

/** A model as something that can be asked; what can be asked stays as it is. */
export const respondentOf = (model: ChatModel | Respondent): Respondent =>
  model instanceof ChatModel ? new ModelRespondent(model) : model;

/**
 * Asks every sample but those in `known`, those about one image behind each other, and gives each out as soon as it is scored; one that cannot be asked has
 * its error and scores 0.
 */
export async function* answerSamples<S extends Sample>(
  model: ChatModel | Respondent,
  task: Task<S>,
  samples: readonly S[],
  {
    batchSize = 8,
    known,
    signal,
  }: { batchSize?: number | undefined; known?: ReadonlyMap<number, unknown> | undefined; signal?: AbortSignal | undefined } = {},
): AsyncGenerator<Numbered<S>, void> {
  const asked: number[] = [];
  function* questions(): Generator<Question> {
    for (const index of byImage(samples)) {
      const sample = samples[index];
      if (!sample || known?.has(index)) continue;
      asked.push(index);
      yield questionOf(task, sample);
    }
  }
  const options = { batchSize, weigh: task.choices !== undefined, signal };
  for await (const response of respondentOf(model).responses(questions(), options)) {
    const index = asked[response.index] ?? 0;
    const sample = samples[index];
    if (sample) yield { index, scored: scoredResponse(task, sample, response) };
  }
}

/** The numbers of all samples in their order, but those about one image moved up to the first of them: POPE asks about an image in each of its splits. */
function byImage(samples: readonly Sample[]): number[] {
  const groups = grouped([...samples.keys()], (index) => samples[index]?.images[0] ?? `#${index}`);
  return [...groups.values()].flat();
}

/** What a sample asks. */
export function questionOf<S extends Sample>(task: Task<S>, sample: S): Question {
  const { maxNewTokens, stop } = task;
  return { messages: task.prompt(sample), maxNewTokens, stop, ...(task.choices && { choices: task.choices(sample) }) };
}

/** A sample with its answer, without the white space around it, and the verdict on it, or with the reason why it has none. */
export function scoredResponse<S extends Sample>(
  task: Task<S>,
  sample: S,
  response: { readonly answer: string } | { readonly error: string },
): Scored<S> {
  const input = promptText(task.prompt(sample));
  if ('error' in response) return { sample, input, parsed: '', score: 0, error: response.error };
  // What a model writes behind `ASSISTANT:` often begins with a space; LLaVA and lmms-eval score it without.
  const answer = strip(response.answer);
  return { sample, input, answer, ...task.score(sample, answer) };
}

/** The text of a conversation, its images as `<image>`. */
export const promptText = (messages: readonly Message[]): string =>
  messages.flatMap((message) => contentParts(message).map((part) => (part.type === 'text' ? part.text : '<image>'))).join('\n');
