import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointError, ConfigError, DataError } from '../errors.ts';
import { ImageProcessor } from './image.ts';
import { type Segment, Segmenter } from './labels.ts';
import { type ImageSource, imagesOf, type Message } from './message.ts';
import { ChatTemplate } from './template.ts';
import { readTemplate, writeTemplate } from './template-files.ts';
import { namedTemplate } from './templates.ts';
import { Tokenizer } from './tokenizer.ts';

/** A conversation as the model reads it. */
export interface Example {
  /** Token ids; each image is `imageTokens` copies of the image token's id. */
  readonly ids: Int32Array;
  /** The ids that are learned, in the same places, and -100 everywhere else. */
  readonly labels: Int32Array;
  readonly images: readonly ImageSource[];
}

/** The label of positions that are not learned. */
export const unlabelled = -100;

/** What a processor is made of. */
export interface ProcessorParts {
  readonly tokenizer: Tokenizer;
  readonly image: ImageProcessor;
  /** The Jinja text of a chat template, or the name of one that ships with the library. */
  readonly template: string;
  /** How many tokens an image takes, as the model says. */
  readonly imageTokens: number;
  /** The special token that stands for an image; `<image>` unless said otherwise. */
  readonly imageToken?: string;
}

/** Conversations to token ids, labels and images, as a checkpoint's tokenizer, chat template and image processor say. */
export class Processor {
  readonly tokenizer: Tokenizer;
  readonly image: ImageProcessor;
  readonly template: ChatTemplate;
  readonly imageTokens: number;
  readonly imageToken: string;
  readonly imageTokenId: number;
  readonly #segmenter: Segmenter;
  #stopIds: readonly number[] | undefined;

  /** Throws ConfigError when the tokenizer lacks the image token, or the template its special tokens. */
  constructor({ tokenizer, image, template, imageTokens, imageToken = '<image>' }: ProcessorParts) {
    const id = tokenizer.special.get(imageToken)?.id;
    if (id === undefined) {
      throw new ConfigError(`the tokenizer has no special token ${JSON.stringify(imageToken)} to stand for images`, {
        hint: `add it with tokenizer.withSpecialToken(${JSON.stringify(imageToken)})`,
      });
    }
    this.tokenizer = tokenizer;
    this.image = image;
    this.imageTokens = imageTokens;
    this.imageToken = imageToken;
    this.imageTokenId = id;
    const source = /[{\n]/.test(template) ? template : namedTemplate(template, tokenizer);
    this.template = new ChatTemplate(source, {
      bosToken: tokenizer.bosToken,
      eosToken: tokenizer.eosToken,
      padToken: tokenizer.padToken,
      unkToken: tokenizer.unkToken,
      imageToken,
    });
    this.#segmenter = new Segmenter(this.template, { special: tokenizer.special, imageToken });
  }

  /** Opens tokenizer, chat template and image processor of a checkpoint folder; `template` takes the place of the folder's. Throws CheckpointError. */
  static async open(
    folder: string,
    { imageTokens, imageToken, template }: { imageTokens: number; imageToken?: string; template?: string },
  ): Promise<Processor> {
    const tokenizer = await Tokenizer.open(folder);
    const source = template ?? (await readTemplate(folder, tokenizer.files.config));
    if (source === undefined) {
      throw new CheckpointError(`${folder} has no chat template`, {
        hint: 'copy chat_template.jinja from the model, or name a template: plain, llama, phi, gemma, qwen2_base, qwen2_instruct, chatml, tiny',
      });
    }
    return new Processor({
      tokenizer,
      image: await ImageProcessor.open(folder),
      template: source,
      imageTokens,
      ...(imageToken && { imageToken }),
    });
  }

  /** The same processor with another chat template, by name or as Jinja text. */
  withTemplate(template: string): Processor {
    return new Processor({
      tokenizer: this.tokenizer,
      image: this.image,
      template,
      imageTokens: this.imageTokens,
      imageToken: this.imageToken,
    });
  }

  /** Writes the files that transformers' AutoTokenizer, AutoImageProcessor and AutoProcessor open. */
  async save(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    const { chat_template: _, ...config } = this.tokenizer.files.config;
    await new Tokenizer({ json: this.tokenizer.files.json, config }).save(folder);
    await writeTemplate(folder, this.template.source);
    await this.image.save(folder);
    const processor = { processor_class: 'LlavaProcessor', image_token: this.imageToken, ...patchesFor(this.imageTokens, this.image) };
    await writeFile(join(folder, 'processor_config.json'), `${JSON.stringify(processor, null, 2)}\n`);
  }

  /** Ids after which an answer is over: the tokenizer's eos and what the template ends a turn with. */
  get stopIds(): readonly number[] {
    if (this.#stopIds === undefined) {
      const eos = this.tokenizer.eosToken;
      const tokens = new Set([...(eos === undefined ? [] : [eos]), ...this.#segmenter.endOfTurn()]);
      this.#stopIds = [...tokens].map((token) => this.tokenizer.requireId(token));
    }
    return this.#stopIds;
  }

  /**
   * A conversation as ids, labels and images. With `train` the answers are labelled, each with its end-of-turn token; without it the ids end where the
   * next answer begins and nothing is labelled. Throws DataError when the template refuses the conversation.
   */
  encode(messages: readonly Message[], { train = false }: { train?: boolean } = {}): Example {
    return this.#tokenise(this.#segmenter.cut(messages, { train }), imagesOf(messages));
  }

  /** Text without a template, in which the image token marks each image and special tokens count as such; the bos token comes first where the tokenizer wants one. */
  encodeText(text: string, images: readonly ImageSource[] = []): Example {
    const { addsBos, bosToken } = this.tokenizer;
    const whole = addsBos && bosToken !== undefined && !text.startsWith(bosToken) ? bosToken + text : text;
    return this.#tokenise(this.#segmenter.cutText(whole), images);
  }

  /** The example cut to `maxTokens`; images that do not fit whole are left out with all that follows. */
  truncate(example: Example, maxTokens: number): Example {
    if (example.ids.length <= maxTokens) return example;
    let end = 0;
    let images = 0;
    while (end < maxTokens) {
      const isImage = example.ids[end] === this.imageTokenId;
      const step = isImage ? this.imageTokens : 1;
      if (end + step > maxTokens) break;
      end += step;
      if (isImage) images++;
    }
    return { ids: example.ids.slice(0, end), labels: example.labels.slice(0, end), images: example.images.slice(0, images) };
  }

  #tokenise(segments: readonly Segment[], images: readonly ImageSource[]): Example {
    const ids: number[] = [];
    const labels: number[] = [];
    let placeholders = 0;
    for (const [i, { text, special, supervised }] of segments.entries()) {
      const previous = segments[i - 1];
      if (text === this.imageToken && special) {
        placeholders++;
        for (let n = 0; n < this.imageTokens; n++) {
          ids.push(this.imageTokenId);
          labels.push(unlabelled);
        }
        continue;
      }
      const made = special
        ? [this.tokenizer.requireId(text)]
        : this.tokenizer.encode(text, { after: previous ? (previous.special ? 'special' : 'text') : 'nothing' });
      for (const id of made) {
        ids.push(id);
        labels.push(supervised ? id : unlabelled);
      }
    }
    if (placeholders !== images.length) {
      throw new DataError(
        `the text has ${placeholders} ${this.imageToken} for ${images.length} ${images.length === 1 ? 'image' : 'images'}`,
        {
          hint: 'give one image for each place, and use a template that writes every image of a message',
        },
      );
    }
    return { ids: Int32Array.from(ids), labels: Int32Array.from(labels), images };
  }
}

/** What makes transformers' LlavaProcessor write as many placeholders: a square grid of patches, where the count is one. */
function patchesFor(imageTokens: number, { height, width }: ImageProcessor): Record<string, unknown> {
  const side = Math.sqrt(imageTokens);
  const patch = Math.floor(height / side);
  const fits = Number.isInteger(side) && height === width && Math.floor(height / patch) === side;
  return fits ? { patch_size: patch, num_additional_image_tokens: 0, vision_feature_select_strategy: 'full' } : {};
}
