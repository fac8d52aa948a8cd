import type { KeyRows } from '../../model/dialect.ts';
import type { Source } from '../source.ts';

/** From this package's names in a connector to Factory's: torch.nn.Sequential counts activations too. */
const connectorRows: KeyRows = [
  [/^linear\.(?=(weight|bias)$)/, ''],
  [/^qformer\./, 'bert.'],
  [/^(bert\..*attention\.)attention\./, '$1self.'],
  [/^language_projection\./, 'projector.'],
  ...Array.from({ length: 8 }, (_, i) => [new RegExp(`^((?:clip\\.|dinov2\\.)?)linear_${i + 1}\\.`), `$1${2 * i}.`] as const),
];

const tower = 'model.vision_tower.';
const connector = 'model.multi_modal_projector.';
const language = 'model.language_model.';

function connectorKey(key: string, type: string | undefined): string {
  // the resampler has a layer called linear, which keeps its name
  if (type === 'resampler') return key;
  return connectorRows.reduce((name, [pattern, spelling]) => name.replace(pattern, spelling ?? ''), key);
}

/** TinyLLaVA Factory 1's name of a weight. */
export function factoryKey(key: string, { config, model }: Source): string {
  if (key.startsWith(tower)) return `vision_tower._vision_tower.${key.slice(tower.length)}`;
  if (key.startsWith(connector)) return `connector._connector.${connectorKey(key.slice(connector.length), config.connector?.type)}`;
  if (key.startsWith(language)) return `language_model.${model.languageModel.prefix}.${key.slice(language.length)}`;
  return `language_model.${key}`;
}
