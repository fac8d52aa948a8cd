// Fetches the data of the quickstart into the cache that clones share, and prints its folder.
import { fetchEasyVqa } from './setup/easy-vqa.mjs';
import { describeFailure } from './setup/failure.mjs';

try {
  console.log(await fetchEasyVqa({ env: process.env, say: (line) => console.error(`setup: ${line}`) }));
} catch (error) {
  console.error(`tinyllava: ${describeFailure(error)}`);
  process.exitCode = 1;
}
