import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Document, isMap, isNode, isSeq, LineCounter, type Node, parseDocument, parse as parseYaml, stringify } from 'yaml';
import { ConfigError, UsageError } from '../errors.ts';
import { examine } from '../model/explain.ts';
import { nearest } from '../model/registry.ts';
import { Recipe } from './recipe.ts';

/** One `a.b=c`: where in the recipe, the value that the text is in YAML, and the file that it is from, if from one. */
export interface Override {
  readonly path: readonly string[];
  readonly value: unknown;
  readonly file?: string;
}

/** Reads `stages.0.optimizer.learningRate=1e-4`. Throws UsageError. */
export function parseOverride(text: string): Override {
  const [, path, value] = /^([\w.-]+)=(.*)$/s.exec(text) ?? [];
  if (path === undefined || value === undefined) {
    throw new UsageError(`"${text}" is no override`, { hint: 'write --set path.to.setting=value, items of a list by their number' });
  }
  try {
    return { path: path.split('.'), value: parseYaml(value) };
  } catch (cause) {
    throw new UsageError(`--set ${text}: ${(cause as Error).message}`, { cause });
  }
}

/** Reads a file of overrides, a map from paths to values, as `stages.instruct.template: llama`. Throws ConfigError. */
export async function readOverrides(file: string): Promise<Override[]> {
  let found: unknown;
  try {
    found = parseYaml(await readFile(file, 'utf8'));
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new ConfigError(`${file}: ${missing ? 'no such file' : (cause as Error).message}`, { cause });
  }
  if (typeof found !== 'object' || found === null || Array.isArray(found)) {
    throw new ConfigError(`${file}: expected a map from paths to values, as stages.instruct.template: llama`);
  }
  return Object.entries(found).map(([path, value]) => ({ path: path.split('.'), value: value as unknown, file }));
}

/** The path with items of lists by their number, where they were called by their name. */
function numbered(document: Document, path: readonly string[]): string[] {
  const found: string[] = [];
  for (const [depth, key] of path.entries()) {
    const around = document.getIn(found, true);
    if (!isSeq(around)) {
      found.push(key);
      continue;
    }
    const names = around.items.map((item) => (isMap(item) ? String(item.get('name')) : ''));
    const number = names.includes(key) ? names.indexOf(key) : Number(key);
    // an item may be added, but as a whole
    if (!(number < around.items.length + (depth === path.length - 1 ? 1 : 0))) throw new RangeError(`there are ${names.join(', ')}`);
    found.push(String(number));
  }
  return found;
}

/** The key of a setting, or an item of a list. */
function nodeAt(document: Document, path: readonly string[]): Node | undefined {
  const around = path.length > 1 ? document.getIn(path.slice(0, -1), true) : document.contents;
  const key = isMap(around) ? around.items.find((pair) => String(pair.key) === path.at(-1))?.key : document.getIn(path, true);
  return isNode(key) ? key : undefined;
}

/**
 * Reads a recipe from YAML text, `file` being its name in messages; overrides replace or add settings. Throws ConfigError with one line
 * for each problem: file, line, path, what was expected and what was found.
 */
export function readRecipeText(text: string, file: string, overrides: readonly Override[] = []): Recipe {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const [broken] = document.errors;
  if (broken) throw new ConfigError(`${file}:${lines.linePos(broken.pos[0]).line}: not YAML: ${broken.message}`, { cause: broken });
  const replaced: { place: readonly string[]; by: string }[] = [];
  for (const { path, value, file: from } of overrides) {
    const by = from === undefined ? '--set' : `--with ${from}:`;
    try {
      const place = numbered(document, path);
      document.setIn(place, document.createNode(value));
      replaced.push({ place, by });
    } catch (cause) {
      const known = cause instanceof RangeError ? `${cause.message}; ` : '';
      throw new ConfigError(`${by} ${path.join('.')}: there is no such place in ${file}`, {
        hint: `${known}items of a list go by their name, or by their number, from 0`,
        cause,
      });
    }
  }
  const { data, problems } = examine(Recipe, document.toJS());
  if (data) return data;
  const overriddenBy = (path: readonly string[]): string | undefined =>
    replaced.findLast(({ place }) => place.every((key, i) => path[i] === key))?.by;
  // What is missing has no line of its own, so the nearest place around it is named.
  const line = (path: readonly string[]): number => {
    for (let depth = path.length; depth > 0; depth--) {
      const found = nodeAt(document, path.slice(0, depth));
      if (found?.range) return lines.linePos(found.range[0]).line;
    }
    return 1;
  };
  const described = problems.map(({ path: keys, message }) => {
    const path = keys.map(String);
    const by = overriddenBy(path);
    const at = by === undefined ? line(path) : Number.POSITIVE_INFINITY;
    return { at, text: `${by ?? `${file}:${at}:`} ${path.join('.') || 'recipe'}: ${message}` };
  });
  described.sort((a, b) => a.at - b.at);
  throw new ConfigError(described.map(({ text }) => text).join('\n'));
}

/** The fix for a recipe that is not there: the file of the nearest name beside it or in `recipes`. */
async function otherRecipe(file: string): Promise<string> {
  const list = async (folder: string): Promise<string[]> => (await readdir(folder).catch(() => [])).map((name) => join(folder, name));
  const known = (await Promise.all([...new Set([dirname(file), 'recipes'])].map(list))).flat().filter((path) => path.endsWith('.yaml'));
  const bare = (path: string): string => basename(path, '.yaml');
  const guess = nearest(bare(file), known.map(bare));
  const path = known.find((other) => bare(other) === guess);
  return path === undefined ? 'name a recipe file (.yaml)' : `did you mean ${path}?`;
}

/** Reads a recipe file. Throws ConfigError, UsageError for one that is not there. */
export async function readRecipe(file: string, overrides: readonly Override[] = []): Promise<Recipe> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'EISDIR') {
      const inside = join(file, 'recipe.yaml');
      throw new UsageError(`${file} is a folder`, {
        hint: existsSync(inside) ? `did you mean ${inside}?` : 'name a recipe file (.yaml)',
        cause,
      });
    }
    if (code !== 'ENOENT') throw new ConfigError(`${file}: ${message}`, { cause });
    throw new UsageError(`${file}: no such file`, { hint: await otherRecipe(file), cause });
  }
  return readRecipeText(text, file, overrides);
}

/** The recipe as YAML, every default written out; `readRecipe` reads the same recipe from it. */
export const writeRecipe = (recipe: Recipe): string => stringify(recipe, { lineWidth: 0 });
