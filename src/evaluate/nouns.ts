const irregular: Readonly<Record<string, string>> = {
  men: 'man',
  women: 'woman',
  children: 'child',
  mice: 'mouse',
  geese: 'goose',
  feet: 'foot',
  teeth: 'tooth',
  oxen: 'ox',
  people: 'person',
  dice: 'die',
  cacti: 'cactus',
};

/** Those that end other words too, as in `firemen`, `grandchildren`. */
const compounded = new Set(['men', 'women', 'children']);

/** What a noun may be the plural of, itself first: `knives` is of knife, `ladies` of lady, `firemen` of fireman. */
export function singulars(word: string): string[] {
  const forms = [word];
  for (const [plural, singular] of Object.entries(irregular)) {
    if (word === plural || (compounded.has(plural) && word.endsWith(plural)))
      forms.push(word.slice(0, word.length - plural.length) + singular);
  }
  if (word.endsWith('ies')) forms.push(`${word.slice(0, -3)}y`);
  if (word.endsWith('ves')) forms.push(`${word.slice(0, -3)}f`, `${word.slice(0, -3)}fe`);
  if (word.endsWith('sses')) forms.push(word.slice(0, -2));
  if (/[^s]s$/.test(word)) forms.push(word.slice(0, -1));
  // Only after these sounds is the plural longer by two letters: `cares` is no car.
  if (/(?:[sxzo]|[cs]h)es$/.test(word)) forms.push(word.slice(0, -2));
  return forms;
}

/**
 * The words of a text: letters, digits, and hyphens between them; what stands behind an apostrophe is a word of its own, as in `dog 's`, and so is every other mark,
 * which keeps the words around it apart.
 */
export const wordsOf = (text: string): string[] => text.match(/[\p{L}\p{N}]+(?:-[\p{L}\p{N}]+)*|['’][\p{L}]+|\S/gu) ?? [];
