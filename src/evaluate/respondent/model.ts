import { createHash } from 'node:crypto';
import { DataError } from '../../errors.ts';
import type { ChatModel } from '../../generate/generate.ts';
import type { TinyLlava } from '../../model/tinyllava.ts';
import { noGrad } from '../../tensor/autograd.ts';
import { indices } from '../../tensor/create.ts';
import { libtorch } from '../../tensor/device.ts';
import { Scope } from '../../tensor/scope.ts';
import { Likelihood } from '../likelihood.ts';
import { letters } from '../prompts.ts';
import type { Identity, Question, Respondent, RespondOptions, Response } from './respondent.ts';

/** A model of this process. */
export class ModelRespondent implements Respondent {
  readonly #model: ChatModel;
  #identity: Identity | undefined;

  constructor(model: ChatModel) {
    this.#model = model;
  }

  get identity(): Identity {
    const { model, processor } = this.#model;
    const { dtype, device } = model.languageModel.headWeight;
    this.#identity ??= { weights: fingerprint(model), dtype, device, libtorch: libtorch().version, template: processor.template.source };
    return this.#identity;
  }

  async *responses(
    questions: Iterable<Question> | AsyncIterable<Question>,
    { batchSize, weigh, signal }: RespondOptions,
  ): AsyncGenerator<Response, void> {
    if (weigh) return yield* this.#weighed(questions, signal);
    for await (const outcome of this.#model.answers(questions, { slots: batchSize, ...(signal && { signal }) })) {
      const { index } = outcome;
      yield 'error' in outcome ? { index, error: outcome.error.message } : { index, answer: outcome.answer.text };
    }
  }

  async *#weighed(
    questions: Iterable<Question> | AsyncIterable<Question>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Response, void> {
    using likelihood = new Likelihood(this.#model);
    let index = 0;
    for await (const { messages, choices = [] } of questions) {
      signal?.throwIfAborted();
      try {
        const losses = likelihood.losses(await likelihood.prepare(messages, choices));
        yield { index, answer: letters[losses.indexOf(Math.min(...losses))] ?? '' };
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        yield { index, error: error.message };
      }
      index += 1;
    }
  }
}

/** Rows of each weight that are looked at: enough to tell models apart, and quick for billions of weights. */
const rowsLookedAt = 8;

/** The SHA-256 of a model's configuration and of some rows of each of its weights. */
function fingerprint(model: TinyLlava): string {
  const hash = createHash('sha256').update(JSON.stringify(model.config));
  noGrad(() => {
    for (const [name, weight] of model.namedParameters()) {
      using _ = new Scope();
      hash.update(`${name} ${weight.shape.join(' ')}\n`);
      const [rows = 0] = weight.shape;
      const every = Math.max(1, Math.floor(rows / rowsLookedAt));
      const looked = Array.from({ length: Math.min(rows, rowsLookedAt) }, (_, i) => i * every);
      const some = rows === 0 ? weight : weight.indexSelect(0, indices(looked).to({ device: weight.device }));
      const values = some.to({ dtype: 'float32', device: 'cpu' }).contiguous().toArray();
      hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    }
  });
  return hash.digest('hex');
}
