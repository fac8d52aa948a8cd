import { expect, test } from 'vitest';
import { parseHubName } from '../../src/hub/name.ts';

test('a hub id is an owner, a name, and perhaps a revision and a GGUF file', () => {
  const main = { repo: 'bczhou/TinyLLaVA-3.1B', revision: 'main' };
  expect(parseHubName('bczhou/TinyLLaVA-3.1B')).toEqual(main);
  expect(parseHubName('bczhou/TinyLLaVA-3.1B@v1.0')).toEqual({ ...main, revision: 'v1.0' });
  expect(parseHubName('bczhou/TinyLLaVA-3.1B@refs/pr/7')).toEqual({ ...main, revision: 'refs/pr/7' });
  expect(parseHubName('a/b-GGUF/b.Q8_0.gguf')).toEqual({ repo: 'a/b-GGUF', revision: 'main', file: 'b.Q8_0.gguf' });
  expect(parseHubName('a/b-GGUF/q8/b.gguf@0123456789abcdef0123456789abcdef01234567')).toEqual({
    repo: 'a/b-GGUF',
    revision: '0123456789abcdef0123456789abcdef01234567',
    file: 'q8/b.gguf',
  });
});

test.each([
  'model',
  '/models/tiny',
  './runs/tiny',
  '../runs/tiny',
  '~/models/tiny',
  'runs/tiny/align',
  'runs/tiny/',
  'recipes/tiny.yaml',
  'data/rows.jsonl',
  'models/model.safetensors',
  'models/model.gguf',
  'a/b/../c.gguf',
  'a/b/.hidden.gguf',
  'a/b@../../x',
  'a/b@',
  'a/b@v1@v2',
  'a--b/c',
  '-a/b',
  'a b/c',
  '',
])('"%s" is no hub id', (text) => {
  expect(parseHubName(text)).toBeUndefined();
});
