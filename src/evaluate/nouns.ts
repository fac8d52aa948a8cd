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

/** What a noun may be the plural of, itself first: `knives` is of knife, `ladies` of lady, `firemen` of fireman. */
export function singulars(word: string): string[] {
  const forms = [word];
  for (const [plural, singular] of Object.entries(irregular)) {
    if (word === plural || (plural.length > 2 && word.endsWith(plural) && plural.endsWith('men')))
      forms.push(word.slice(0, word.length - plural.length) + singular);
  }
  if (word.endsWith('ies')) forms.push(`${word.slice(0, -3)}y`);
  if (word.endsWith('ves')) forms.push(`${word.slice(0, -3)}f`, `${word.slice(0, -3)}fe`);
  if (word.endsWith('sses')) forms.push(word.slice(0, -2));
  if (word.endsWith('es')) forms.push(word.slice(0, -1), word.slice(0, -2));
  else if (word.endsWith('s') && !word.endsWith('ss')) forms.push(word.slice(0, -1));
  return forms;
}

/** The words of a text: letters, digits, and hyphens between them; what stands behind an apostrophe is a word of its own, as in `dog 's`. */
export const wordsOf = (text: string): string[] => text.match(/[\p{L}\p{N}]+(?:-[\p{L}\p{N}]+)*|['’][\p{L}]+/gu) ?? [];
