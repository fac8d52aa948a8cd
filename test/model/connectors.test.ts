import { expect, test } from 'vitest';
import { connectors } from '../../src/model/connector/index.ts';
import '../matchers.ts';
import { connectorReferences, reference, referenceConnector } from './reference.ts';

const atol = 1e-5;

test('every connector that has weights has references in usual and in odd sizes', () => {
  const types = connectorReferences.map((name) => referenceConnector(reference(name).folder).type);
  for (const type of Object.keys(connectors))
    expect(types.filter((found) => found === type).length, type).toBe(type === 'identity' ? 0 : 2);
});

test.each(connectorReferences)('%s gives the embeddings and all gradients of Python', (name) => {
  const { expected, folder, gradients } = reference(name);
  const connector = referenceConnector(folder).connector.trainable();
  const features = expected.tensor('input').clone().requiresGrad_();
  const embeddings = connector.forward(features);
  expect(embeddings).toMatchTensor(expected.tensor('output'), { atol });
  expect(embeddings.shape[1]).toBe(connector.tokens(features.size(1)));
  embeddings.mul(expected.tensor('probe')).sum().backward();
  expect(features.grad).toMatchTensor(expected.tensor('grad_of_input'), { atol });
  const parameters = new Map(connector.namedParameters());
  // what stays as it is has none
  const learning = [...parameters].filter(([, { requiresGrad }]) => requiresGrad).map(([key]) => key);
  expect(gradients()).toEqual(learning.sort());
  for (const key of gradients()) {
    const gradient = expected.tensor(`grad.${key}`);
    // within roundings of the largest, which are tens
    const largest = gradient.abs().amax().item();
    expect(parameters.get(key)?.grad, key).toMatchTensor(gradient, { atol: atol * Math.max(1, largest / 10) });
  }
});
