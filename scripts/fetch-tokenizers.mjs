// Fetches the tokenizers of published models, of which the tests say what Python makes of texts, into the cache that clones share, and prints their folder.
import { describeFailure } from './setup/failure.mjs';
import { fetchTokenizers } from './setup/tokenizers.mjs';

try {
  console.log(await fetchTokenizers({ env: process.env, say: (line) => console.error(`setup: ${line}`) }));
} catch (error) {
  console.error(`tinyllava: ${describeFailure(error)}`);
  process.exitCode = 1;
}
