import type { ProcessorHints } from '../model/dialects/processor-hints.ts';
import { type OpenOptions, openModelFiles } from '../model/model-files.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { ImageProcessor } from './image.ts';
import { Processor, type ProcessorParts } from './processor.ts';
import { spellingOf } from './processor-file.ts';
import { noTemplate, readProcessorClass, readTemplate } from './template-files.ts';
import { Tokenizer } from './tokenizer.ts';
import { tokenizerFolder } from './tokenizer-files.ts';

const usual = '<image>';

/** What a processor is made of, with the chat template of the folder where it has one. */
export type OpenedParts = Omit<ProcessorParts, 'template'> & { readonly template: string | undefined };

/**
 * Opens what belongs to a model in its folder, or its GGUF file: tokenizer, chat template and image processor; for an adapter without them, those
 * of its base. What published layouts leave to their code is filled in. Throws CheckpointError or ConfigError.
 */
export async function openProcessorParts(path: string, model: TinyLlava, options: OpenOptions = {}): Promise<OpenedParts> {
  const { processor: hints, folders } = await openModelFiles(path, options);
  const folder = tokenizerFolder(folders);
  const { tokenizer, imageToken } = withImageToken(await Tokenizer.open(folder), model.config.imageTokenId);
  const template = await templateFor(folder, tokenizer, hints);
  if (!model.visionTower) return { tokenizer, template };
  return {
    tokenizer,
    template,
    image: await ImageProcessor.open(folder, hints?.preprocessor),
    imageTokens: (layout) => model.imageRuns(layout),
    imageToken,
    spelling: spellingOf(await readProcessorClass(folder, tokenizer.files.config)),
  };
}

/** The processor of a model's folder or GGUF file; `template` takes the place of the folder's. Throws CheckpointError or ConfigError. */
export async function openProcessor(
  folder: string,
  model: TinyLlava,
  { template, ...options }: OpenOptions & { template?: string | undefined } = {},
): Promise<Processor> {
  const parts = await openProcessorParts(folder, model, options);
  const source = template ?? parts.template;
  if (source === undefined) throw noTemplate(folder);
  return new Processor({ ...parts, template: source });
}

/** The tokenizer with a special token for the id that stands for images, which many published models have in their code alone. */
function withImageToken(tokenizer: Tokenizer, id: number | undefined): { tokenizer: Tokenizer; imageToken: string } {
  if (id === undefined) return { tokenizer, imageToken: usual };
  const known = [...tokenizer.special.values()].find((token) => token.id === id);
  if (known) return { tokenizer, imageToken: known.content };
  return { tokenizer: tokenizer.withSpecialToken(usual, id), imageToken: usual };
}

/** The chat template of a folder, or the name of the one that the code of its layout has. */
export async function templateFor(folder: string, tokenizer: Tokenizer, hints: ProcessorHints | undefined): Promise<string | undefined> {
  return (await readTemplate(folder, tokenizer.files.config)) ?? (hints && templateNamed(hints, tokenizer));
}

function templateNamed({ template }: ProcessorHints, tokenizer: Tokenizer): string | undefined {
  if (template !== 'vicuna') return template;
  const endings = { llama: '</s>', phi: '<|endoftext|>', gemma: '<eos>', qwen2_instruct: '<|im_end|>' };
  return Object.entries(endings).find(([, ending]) => ending === tokenizer.eosToken)?.[0];
}
