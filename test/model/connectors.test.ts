import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Connector, ConnectorContext } from '../../src/model/connector/connector.ts';
import { connectors } from '../../src/model/connector/index.ts';
import type { Json } from '../../src/model/part.ts';
import { openWeights } from '../../src/tensor/weight-files.ts';
import '../matchers.ts';
import { reference } from './reference.ts';

const atol = 1e-5;

interface Stored {
  readonly context: ConnectorContext;
  readonly connector_config: Json;
}

/** The connector that a reference's config.json describes, with its weights. */
function load(folder: string): Connector {
  const { context, connector_config } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Stored;
  const found = Object.entries(connectors).find(([, { modelType }]) => modelType === connector_config['model_type']);
  if (!found) throw new Error(`no connector ${String(connector_config['model_type'])}`);
  const [type, kind] = found;
  return kind.create(kind.fromJson(connector_config, type, { file: folder }), context).load(openWeights(folder));
}

test.each([
  'connector-mlp1',
  'connector-mlp3',
  'connector-mof',
  'connector-mof-odd',
  'connector-resampler',
  'connector-resampler-odd',
  'connector-qformer',
  'connector-qformer-factory',
  'connector-idefics3',
  'connector-idefics3-odd',
  'connector-internvl',
  'connector-internvl-odd',
  'connector-ldp-v2',
  'connector-ldp-v2-odd',
  'connector-c-abstractor',
  'connector-c-abstractor-odd',
])('%s gives the embeddings and all gradients of Python', (name) => {
  const { expected, folder, gradients } = reference(name);
  const connector = load(folder).trainable();
  const features = expected.tensor('input').clone().requiresGrad_();
  const embeddings = connector.forward(features);
  expect(embeddings).toMatchTensor(expected.tensor('output'), { atol });
  expect(embeddings.shape[1]).toBe(connector.tokens(features.size(1)));
  embeddings.mul(expected.tensor('probe')).sum().backward();
  expect(features.grad).toMatchTensor(expected.tensor('grad_of_input'), { atol });
  const parameters = new Map(connector.namedParameters());
  expect(gradients()).toEqual([...parameters.keys()].sort());
  for (const key of gradients()) expect(parameters.get(key)?.grad, key).toMatchTensor(expected.tensor(`grad.${key}`), { atol });
});
