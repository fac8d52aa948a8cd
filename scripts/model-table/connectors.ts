import type { z } from 'zod';
import { connectors } from '../../src/model/connector/index.ts';
import { connectorReferences, reference, referenceConnector } from '../../test/model/reference.ts';
import { apart, cell, type Difference, largest } from './difference.ts';

/** What a table cannot find out by itself; `settings` are those of the numbers where they are not the defaults. */
interface Facts {
  readonly does: string;
  readonly followed: string;
  /** How many tokens come out of N. */
  readonly rule: string;
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly note?: string;
}

const facts: Readonly<Record<keyof typeof connectors, Facts>> = {
  identity: { does: 'nothing', followed: 'LLaVA', rule: 'N' },
  linear: { does: 'one affine map', followed: 'LLaVA', rule: 'N' },
  mlp: { does: '`mlpNx_gelu` for N = 1 to 8', followed: 'LLaVA-1.5', rule: 'N' },
  'pixel-shuffle': {
    does: "squares of tokens side by side, then a perceptron; one layer without bias is nanoVLM's and SmolVLM's",
    followed: "transformers' Idefics3",
    rule: 'N / factor²',
    settings: { factor: 3, layers: 1, bias: false },
    note: ' (factor 3, as they have it)',
  },
  'pixel-shuffle-mlp': {
    does: 'the same with a norm in between',
    followed: "transformers' InternVL",
    rule: 'N / factor²',
    settings: { factor: 3 },
    note: ' (factor 3)',
  },
  'ldp-v2': { does: 'perceptron, averages, depthwise convolution', followed: 'MobileVLM V2, `vision_projector.py`', rule: 'side²' },
  'c-abstractor': {
    does: 'convolutional blocks around averages, perceptron',
    followed: "Honeybee, `projectors.py`; timm's RegNet block",
    rule: 'numQueries + numEosTokens',
  },
  resampler: { does: 'latents that look at the image', followed: 'TinyLLaVA Factory, `resampler.py`', rule: 'numQueries' },
  qformer: {
    does: 'queries in a BERT that look at the image',
    followed: "transformers' BLIP-2; TinyLLaVA Factory's with `queryNormAffine: false`",
    rule: 'numQueries',
  },
  'mof-mlp': { does: 'a perceptron for each of two towers, tokens alternate', followed: 'TinyLLaVA Factory, `mof_mlp.py`', rule: '2 N' },
  'class-words': {
    does: "the names of what the tower's own classifier sees, then a perceptron on averages ([why](demo.md))",
    followed: 'this package',
    rule: 'words + side²',
  },
};

/** Against the embeddings, and the gradients of (embeddings · probe) in the features and every parameter. */
function difference(name: string): Difference & { readonly type: string } {
  const { expected, folder, gradients } = reference(name);
  const { connector, type } = referenceConnector(folder);
  connector.trainable();
  const features = expected.tensor('input').clone().requiresGrad_();
  const embeddings = connector.forward(features);
  embeddings.mul(expected.tensor('probe')).sum().backward();
  const parameters = new Map(connector.namedParameters());
  const ofParameters = gradients().map((key) => apart(parameters.get(key)?.grad, expected.tensor(`grad.${key}`)));
  const ofFeatures = apart(features.grad, expected.tensor('grad_of_input'));
  return { type, outputs: apart(embeddings, expected.tensor('output')), gradients: Math.max(ofFeatures, ...ofParameters) };
}

/** The table of connectors, between SigLIP-so400m at 384 (729 tokens of 1152) and a language model of width 2048. Throws as the towers' does. */
export function connectorTable(): string {
  const found = connectorReferences.map(difference);
  const rows = Object.entries(facts).map(([type, { does, followed, rule, settings = {}, note = '' }]) => {
    const kind = connectors[type as keyof typeof connectors];
    const config = kind.parse({ type, ...settings }, type);
    const [visionSize, visionTokens] = type === 'mof-mlp' ? [2048, 256] : [1152, 729];
    const languageSize = type === 'identity' ? visionSize : 2048;
    const connector = kind.create(config, { visionSize, visionTokens, languageSize });
    const own = found.filter((one) => one.type === type);
    if (own.length < 2 && type !== 'identity') throw new Error(`${type} has ${own.length} references`);
    const options = Object.keys((kind.schema as z.ZodObject).shape).filter((key) => key !== 'type');
    const shown = [
      `\`${type}\``,
      does,
      options.map((option) => `\`${option}\``).join(', '),
      `${connector.parameterCount().toLocaleString('en')}${note}`,
      `${rule} = ${connector.tokens(visionTokens)}`,
      followed,
      kind.inTransformers(config) ? 'yes' : 'no',
      own.length === 0 ? '0, 0' : cell(type, largest(own)),
    ];
    return `| ${shown.join(' | ')} |`;
  });
  return [
    "| type | what it does | settings | parameters | tokens | followed | in transformers' LLaVA | difference: embeddings, gradients |",
    '|---|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}
