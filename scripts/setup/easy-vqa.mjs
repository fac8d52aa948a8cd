import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder, cacheOnce } from './cache.mjs';
import { pipInstall } from './pip.mjs';

/** @typedef {import('./commands.mjs').Env} Env */

const parts = ['answers.txt', 'LICENSE', ...['train', 'test'].flatMap((split) => [`${split}/questions.json`, `${split}/images`])];

/** Where easy-vqa is kept: train/ and test/, each with questions.json and images/, and answers.txt. @param {Env} env */
export function easyVqaFolder(env) {
  return join(cacheFolder(env), 'data/easy-vqa-1.0');
}

/** Fetches easy-vqa 1.0 (Victor Zhou, MIT licence) into the cache unless it is there, and returns its folder. @param {{ env: Env, say?: (line: string) => void }} options */
export async function fetchEasyVqa({ env, say = () => {} }) {
  const place = easyVqaFolder(env);
  const what = 'the easy-vqa 1.0 images and questions (MIT licence)';
  /** @param {string} folder */
  const make = async (folder) => {
    const site = await pipInstall({ folder, packages: ['easy-vqa==1.0'], what, env });
    renameSync(join(site, 'easy_vqa-1.0.dist-info/LICENSE'), join(site, 'easy_vqa/data/LICENSE'));
    return join(site, 'easy_vqa/data');
  };
  await cacheOnce({ place, what, bytes: 1e8, parts, make, say });
  return place;
}
