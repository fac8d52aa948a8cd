import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError, DataError } from '../errors.ts';
import { type ImageLayout, viewsOf, wholeImage } from '../model/image-layout.ts';
import { ImageProcessor } from './image.ts';
import { type ImageSpelling, spellImage } from './image-spelling.ts';
import { type Segment, Segmenter } from './labels.ts';
import { type ImageRequest, type ImageSource, type InputMessage, imagesOf, type Message } from './message.ts';
import { processorJson } from './processor-file.ts';
import { ChatTemplate } from './template.ts';
import { noTemplate, readTemplate, writeTemplate } from './template-files.ts';
import { namedTemplate } from './templates.ts';
import { Tokenizer } from './tokenizer.ts';
import { defaultFrames, withFrames } from './video.ts';

/** An image of an example: where its embeddings, and what is spelled around them, stand among the ids. */
export interface PlacedImage {
  readonly source: ImageSource;
  readonly layout: ImageLayout;
  readonly start: number;
  readonly end: number;
}

/** A conversation as the model reads it. */
export interface Example {
  /** Token ids; each image is the image token's id once for every embedding, among what its family spells around them. */
  readonly ids: Int32Array;
  /** The ids that are learned, in the same places, and -100 everywhere else. */
  readonly labels: Int32Array;
  readonly images: readonly PlacedImage[];
}

/** The label of positions that are not learned. */
export const unlabelled = -100;

/** How many embeddings an image of a layout takes, one number for each run of them that nothing interrupts. */
export type ImageRuns = (layout: ImageLayout) => readonly number[];

/** What a processor is made of. */
export interface ProcessorParts {
  readonly tokenizer: Tokenizer;
  /** How images become pixels; left out for a language model alone. */
  readonly image?: ImageProcessor | undefined;
  /** The Jinja text of a chat template, or the name of one that ships with the library. */
  readonly template: string;
  /** How many tokens an image takes, as the model says; a number is for each view. */
  readonly imageTokens?: number | ImageRuns;
  /** The special token that stands for an image; `<image>` unless said otherwise. */
  readonly imageToken?: string | undefined;
  /** What stands around an image's tokens. */
  readonly spelling?: ImageSpelling | undefined;
  /** Frames that a video is sampled to; 8 unless said otherwise. */
  readonly videoFrames?: number | undefined;
}

/** Conversations to token ids, labels and images, as a checkpoint's tokenizer, chat template and image processor say. */
export class Processor {
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  readonly imageToken: string;
  readonly imageTokenId: number;
  readonly spelling: ImageSpelling;
  readonly videoFrames: number;
  readonly #image: ImageProcessor | undefined;
  readonly #runs: ImageRuns;
  readonly #segmenter: Segmenter;
  #stopIds: readonly number[] | undefined;

  /** Throws ConfigError when the tokenizer lacks the image token, or the template its special tokens. */
  constructor({
    tokenizer,
    image,
    template,
    imageTokens = 0,
    imageToken = '<image>',
    spelling = 'plain',
    videoFrames = defaultFrames,
  }: ProcessorParts) {
    const id = tokenizer.special.get(imageToken)?.id;
    if (id === undefined && image) {
      throw new ConfigError(`the tokenizer has no special token ${JSON.stringify(imageToken)} to stand for images`, {
        hint: `add it to added_tokens of tokenizer.json, or in code by tokenizer.withSpecialToken(${JSON.stringify(imageToken)})`,
      });
    }
    this.tokenizer = tokenizer;
    this.#image = image;
    this.#runs = typeof imageTokens === 'number' ? (layout) => new Array<number>(viewsOf(layout)).fill(imageTokens) : imageTokens;
    this.imageToken = imageToken;
    // No id is -1, so that nothing is taken for an image where there are none.
    this.imageTokenId = id ?? -1;
    this.spelling = spelling;
    this.videoFrames = videoFrames;
    const source = /[{\n]/.test(template) ? template : namedTemplate(template, tokenizer).replaceAll('<image>', imageToken);
    this.template = new ChatTemplate(source, {
      bosToken: tokenizer.bosToken,
      eosToken: tokenizer.eosToken,
      padToken: tokenizer.padToken,
      unkToken: tokenizer.unkToken,
      imageToken,
    });
    this.#segmenter = new Segmenter(this.template, { special: tokenizer.special, imageToken });
  }

  /** Opens what `save` wrote; `openProcessor` opens what belongs to a model. Throws CheckpointError. */
  static async open(
    folder: string,
    { template, ...options }: Omit<ProcessorParts, 'tokenizer' | 'image' | 'template'> & { template?: string },
  ): Promise<Processor> {
    const tokenizer = await Tokenizer.open(folder);
    const source = template ?? (await readTemplate(folder, tokenizer.files.config));
    if (source === undefined) throw noTemplate(folder);
    return new Processor({ ...options, tokenizer, image: await ImageProcessor.open(folder), template: source });
  }

  /** Images to pixels. Throws ConfigError for the processor of a language model alone. */
  get image(): ImageProcessor {
    if (this.#image) return this.#image;
    throw new ConfigError('this model is a language model alone: it takes no images', { hint: 'leave the images out' });
  }

  /** How many tokens an image of this layout takes, without what is spelled around them. */
  imageTokens(layout: ImageLayout = wholeImage): number {
    return this.#runs(layout).reduce((sum, run) => sum + run, 0);
  }

  /** The same processor with another chat template, by name or as Jinja text. */
  withTemplate(template: string): Processor {
    const { tokenizer, imageToken, spelling, videoFrames } = this;
    return new Processor({ tokenizer, image: this.#image, template, imageTokens: this.#runs, imageToken, spelling, videoFrames });
  }

  /** Writes the files that transformers' AutoTokenizer, AutoImageProcessor and AutoProcessor open. */
  async save(folder: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    const { chat_template: _, ...config } = this.tokenizer.files.config;
    await new Tokenizer({ json: this.tokenizer.files.json, config }).save(folder);
    await writeTemplate(folder, this.template.source);
    if (!this.#image) return;
    await this.#image.save(folder);
    const processor = processorJson(this.#image, { spelling: this.spelling, imageToken: this.imageToken, imageTokens: this.imageTokens() });
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

  /** `encode`, with videos sampled and the layouts of the images found out. Throws DataError as it does, and for files that cannot be read. */
  async read(given: readonly InputMessage[], options: { train?: boolean } = {}): Promise<Example> {
    const messages = await withFrames(given, this.videoFrames);
    const images = imagesOf(messages);
    return this.encode(messages, { ...options, ...(images.length > 0 && { layouts: await this.image.layouts(images) }) });
  }

  /**
   * A conversation as ids, labels and images. With `train` the answers are labelled, each with its end-of-turn token; without it the ids end where the
   * next answer begins and nothing is labelled. Images are shown as a whole alone unless their `layouts` are given. Throws DataError when
   * the template refuses the conversation.
   */
  encode(messages: readonly Message[], { train = false, layouts }: { train?: boolean; layouts?: readonly ImageLayout[] } = {}): Example {
    return this.#tokenise(this.#segmenter.cut(messages, { train }), withLayouts(imagesOf(messages), layouts));
  }

  /** Text without a template, in which the image token marks each image and special tokens count as such; the bos token comes first where the tokenizer wants one. */
  encodeText(text: string, images: readonly ImageSource[] = [], layouts?: readonly ImageLayout[]): Example {
    const { addsBos, bosToken } = this.tokenizer;
    const whole = addsBos && bosToken !== undefined && !text.startsWith(bosToken) ? bosToken + text : text;
    const requests = images.map((source) => ({ source, whole: false }));
    return this.#tokenise(this.#segmenter.cutText(whole), withLayouts(requests, layouts));
  }

  /** `encodeText`, with the layouts of the images found out. Throws DataError for files that cannot be read. */
  async readText(text: string, images: readonly ImageSource[] = []): Promise<Example> {
    const requests = images.map((source) => ({ source, whole: false }));
    return this.encodeText(text, images, images.length > 0 ? await this.image.layouts(requests) : []);
  }

  /** The example cut to `maxTokens`; images that do not fit whole are left out with all that follows. */
  truncate(example: Example, maxTokens: number): Example {
    if (example.ids.length <= maxTokens) return example;
    const cut = example.images.find(({ end }) => end > maxTokens);
    const end = Math.min(maxTokens, cut?.start ?? maxTokens);
    const images = example.images.filter((image) => image.end <= end);
    return { ids: example.ids.slice(0, end), labels: example.labels.slice(0, end), images };
  }

  #tokenise(segments: readonly Segment[], images: readonly Shown[]): Example {
    const ids: number[] = [];
    const labels: number[] = [];
    const placed: PlacedImage[] = [];
    let places = 0;
    for (const [i, { text, special, supervised }] of segments.entries()) {
      const previous = segments[i - 1];
      if (text === this.imageToken && special) {
        const image = images[places++];
        const start = ids.length;
        if (image) for (const id of this.#spell(image.layout)) ids.push(id);
        while (labels.length < ids.length) labels.push(unlabelled);
        if (image) placed.push({ ...image, start, end: ids.length });
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
    if (places !== images.length) {
      throw new DataError(`the text has ${places} ${this.imageToken} for ${images.length} ${images.length === 1 ? 'image' : 'images'}`, {
        hint: 'give one image for each place, and use a template that writes every image of a message',
      });
    }
    return { ids: Int32Array.from(ids), labels: Int32Array.from(labels), images: placed };
  }

  /** The ids of an image: its embeddings' places, and what is spelled around them. */
  #spell(layout: ImageLayout): number[] {
    const runs = this.#runs(layout);
    const spelled = spellImage(this.spelling, layout, { imageToken: this.imageToken, runs: runs.length });
    let run = 0;
    return this.#segmenter.cutText(spelled).flatMap(({ text, special }) => {
      if (!special) return this.tokenizer.encode(text, { after: 'special' });
      return text === this.imageToken ? new Array<number>(runs[run++] ?? 0).fill(this.imageTokenId) : [this.tokenizer.requireId(text)];
    });
  }
}

/** An image and how it is shown. */
interface Shown {
  readonly source: ImageSource;
  readonly layout: ImageLayout;
}

const withLayouts = (images: readonly ImageRequest[], layouts: readonly ImageLayout[] = []): Shown[] =>
  images.map(({ source }, i) => ({ source, layout: layouts[i] ?? wholeImage }));
