import { ConfigError } from '../../errors.ts';
import type { PartConfig } from '../../model/part.ts';
import type { Tokenizer } from '../../processor/tokenizer.ts';
import { cat, zeros } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Source } from '../source.ts';
import { type Fields, text, whole } from './settings.ts';
import type { Made } from './tensors.ts';
import { type GgufTower, ggufTower } from './tower.ts';

/** A vision tower and a connector as llama.cpp's `clip` files have them. */
export interface GgufProjector {
  readonly fields: Fields;
  readonly made: readonly Made[];
  readonly notes: readonly string[];
}

/** What a kind of connector adds to its tower. */
interface Kind {
  /** llama.cpp's name. */
  readonly type: string;
  /** Names of the connector's weights. */
  readonly names: Readonly<Record<string, string>>;
  /** Throws ConfigError for settings that llama.cpp does not compute. */
  readonly check: (connector: PartConfig, tower: GgufTower, source: Source) => void;
  readonly fields?: (connector: PartConfig, tower: GgufTower, source: Source) => Fields;
  readonly notes?: readonly string[];
}

const prefix = 'model.multi_modal_projector.';

function demand(holds: boolean, type: string, what: string): void {
  if (holds) return;
  throw new ConfigError(`gguf: llama.cpp's projector "${type}" is for models with ${what}, which this one is not`, {
    hint: 'convert it with --to hf instead',
  });
}

function twoLayers({ layers, hiddenAct }: PartConfig, type: string): void {
  demand(layers === 2 && String(hiddenAct).startsWith('gelu'), type, 'two layers with GELU between them');
}

/** Tokens of SmolVLM that llama.cpp puts beside images, whether the vocabulary has them or not. */
const beside = ['\n\n', '\n', '<fake_token_around_image>', '<global-img>'];

const isToken = (tokenizer: Tokenizer | undefined, text: string): boolean =>
  tokenizer !== undefined && (tokenizer.idOf(text) !== undefined || tokenizer.encode(text).length === 1);

const classTokenNote =
  "llama.cpp puts CLIP's class token behind the patches under a projector of LLaVA, and leaves out the first patch for it: answers differ from here";

const kinds: Readonly<Record<string, Kind>> = {
  mlp: {
    type: 'mlp',
    names: { linear_1: 'mm.0', linear_2: 'mm.2' },
    check: (connector) => twoLayers(connector, 'mlp'),
    fields: (_, { layers }) => ({ 'clip.vision.feature_layer': { type: 'int32', value: layers } }),
  },
  'ldp-v2': {
    type: 'ldpv2',
    names: { 'mlp.mlp.0': 'mm.model.mlp.0', 'mlp.mlp.2': 'mm.model.mlp.2', 'peg.peg.0': 'mm.model.peg.0' },
    check: ({ side }, _, { model }) =>
      demand(side === 12 && model.visionTower?.tokens === 576, 'ldpv2', 'tokens of 24 x 24 patches that become 12 x 12'),
    fields: (_, { layers }) => ({ 'clip.vision.feature_layer': { type: 'int32', value: layers } }),
  },
  'pixel-shuffle': {
    type: 'idefics3',
    names: { linear_1: 'mm.model.fc' },
    check: ({ layers, bias }, { layers: taken, classToken }, { tokenizer }) => {
      demand(layers === 1 && bias === false, 'idefics3', 'one layer without a bias');
      demand(!classToken && taken.length === 1, 'idefics3', 'a SigLIP, and features of one layer');
      for (const token of beside) demand(isToken(tokenizer, token), 'idefics3', `the token ${JSON.stringify(token)}`);
    },
    fields: ({ factor }, _, { image }) => ({
      'clip.vision.projector.scale_factor': whole(Number(factor)),
      ...(image?.tiling?.type === 'split' && image.tiling.tiles && { 'clip.vision.preproc_image_size': whole(image.tiling.longestEdge) }),
    }),
    notes: ['llama.cpp writes tokens of SmolVLM around the image of an "idefics3" model, and adds tiles of it'],
  },
  'pixel-shuffle-mlp': {
    type: 'internvl',
    names: { layer_norm: 'mm.model.mlp.0', linear_1: 'mm.model.mlp.1', linear_2: 'mm.model.mlp.3' },
    check: (connector, { layers, classToken }) => {
      twoLayers(connector, 'internvl');
      demand(classToken && layers.length === 1, 'internvl', 'a tower with a class token, and features of one layer');
    },
    fields: ({ factor }, _, { image }) => {
      const { minTiles, maxTiles } = image?.tiling?.type === 'dynamic' ? image.tiling : { minTiles: 1, maxTiles: 1 };
      return {
        'clip.vision.projector.scale_factor': whole(Number(factor)),
        'clip.vision.preproc_min_tiles': whole(minTiles),
        'clip.vision.preproc_max_tiles': whole(maxTiles),
      };
    },
    notes: ['llama.cpp writes <img> and </img> around the image of an "internvl" model, and adds tiles of images larger than its input'],
  },
};

/** A connector's tensors; a missing bias is written as zeros where llama.cpp adds one unasked. */
function connectorTensors({ type, names }: Kind, { model, weights }: Source): Made[] {
  const made: Made[] = [];
  for (const [key] of model.namedParameters()) {
    if (!key.startsWith(prefix)) continue;
    const [, part = '', kind] = /^(.+)\.(weight|bias)$/.exec(key.slice(prefix.length)) ?? [];
    const shape = weights.shape(key);
    const name = `${names[part]}.${kind}`;
    // llama.cpp convolves channel by channel in 16 bits alone, from kernels without the dimension of 1
    if (shape.length === 4)
      made.push({ name, keys: [key], shape: [shape[0] ?? 0, 3, 3], make: (weight) => (weight as Tensor).squeeze(1), type: 'F16' });
    else made.push({ name, keys: [key], shape });
    const width = shape[0] ?? 0;
    if (type === 'mlp' && kind === 'weight' && !weights.names.includes(`${prefix}${part}.bias`))
      made.push({ name: `${names[part]}.bias`, keys: [], shape: [width], make: () => zeros([width]) });
  }
  return made;
}

/** The class token's position behind those of the patches, where llama.cpp puts the token. */
const classLast = (position: Made): Made => ({
  ...position,
  make: (weight) => {
    const all = position.make?.(weight as Tensor) ?? (weight as Tensor);
    return cat([all.narrow(0, 1, all.size(0) - 1), all.narrow(0, 0, 1)]);
  },
});

/** The vision tower and the connector of a source for llama.cpp. Throws ConfigError for parts that it lacks. */
export function ggufProjector(source: Source): GgufProjector {
  const { connector, arrangement } = source.config;
  if (arrangement)
    throw new ConfigError('gguf: tiles that are put together as one picture (anyres), which is not written', {
      hint: 'convert it with --to hf instead',
    });
  const kind = connector && Object.hasOwn(kinds, connector.type) ? kinds[connector.type] : undefined;
  if (!connector || !kind) {
    throw new ConfigError(`gguf: llama.cpp has no projector for the connector ${connector?.type}`, {
      hint: `it has one for ${Object.keys(kinds).join(', ')}; convert the model with --to hf instead`,
    });
  }
  const tower = ggufTower(source, { exchanges: kind.type !== 'internvl' });
  kind.check(connector, tower, source);
  const made = tower.made.map((one) =>
    one.name === 'v.position_embd.weight' && tower.classToken && kind.type === 'internvl' ? classLast(one) : one,
  );
  return {
    made: [...made, ...connectorTensors(kind, source)],
    fields: {
      'clip.has_vision_encoder': { type: 'bool', value: true },
      'clip.has_llava_projector': { type: 'bool', value: kind.type === 'mlp' || kind.type === 'ldpv2' },
      'clip.projector_type': text(kind.type),
      'clip.vision.projection_dim': whole(source.model.languageModel.hiddenSize),
      ...tower.fields,
      ...kind.fields?.(connector, tower, source),
    },
    notes: tower.classToken && kind.type !== 'internvl' ? [classTokenNote] : (kind.notes ?? []),
  };
}
