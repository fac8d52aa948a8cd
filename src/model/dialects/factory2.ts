import { llavaRows } from '../dialect.ts';
import { connectorRows } from './connector-rows.ts';
import { countLayers, type PublishedDialect } from './published.ts';

const layers = 'model.multi_modal_projector.layers.';

/** TinyLLaVA Factory 2: transformers' LLaVA but for the connector, whose layers are numbered, and whose kind it leaves to the keys. */
export const factory2: PublishedDialect = {
  matches: (config) => config['model_type'] === 'tinyllava' && !('connector_type' in config || 'connector_config' in config),
  read: (config, weights) => ({
    ...config,
    connector_config: { model_type: 'mlp', layers: countLayers(weights, layers), hidden_act: 'gelu' },
  }),
  rows: [...connectorRows, ...llavaRows],
};
