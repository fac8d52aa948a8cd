import type { KeyRows } from '../dialect.ts';
import type { Json } from '../part.ts';

/** The section of config.json for the names that LLaVA and all its heirs give connectors: `linear`, `identity`, `mlp2x_gelu`. */
export function perceptronNamed(name: string): Json | undefined {
  if (name === 'linear' || name === 'identity') return { model_type: name };
  const layers = /^mlp(\d+)x_gelu$/.exec(name)?.[1];
  return layers === undefined ? undefined : { model_type: 'mlp', layers: Number(layers), hidden_act: 'gelu' };
}

// A connector stands in a whole model, or alone in a file of its own.
const base = '^((?:model\\.multi_modal_projector\\.)?';

/** From the names that others give what is in a connector to ours. */
export const connectorRows: KeyRows = [
  [new RegExp(`${base})bert\\.`), '$1qformer.'],
  [new RegExp(`${base})projector\\.`), '$1language_projection.'],
  [new RegExp(`${base}qformer\\..*attention)\\.self\\.`), '$1.attention.'],
  [new RegExp(`${base})(weight|bias)$`), '$1linear.$2'],
  // torch.nn.Sequential counts activations too; Factory 2 counts layers.
  ...Array.from({ length: 8 }, (_, i) => [new RegExp(`${base}(?:clip\\.|dinov2\\.)?)${2 * i}\\.`), `$1linear_${i + 1}.`] as const),
  ...Array.from({ length: 8 }, (_, i) => [new RegExp(`${base})layers\\.${i}\\.(?=weight$|bias$)`), `$1linear_${i + 1}.`] as const),
];
