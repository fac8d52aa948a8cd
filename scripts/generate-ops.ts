// Writes src/tensor/ops.generated.ts: one typed function for each operator in scripts/operators.txt, from the schemas of
// the libtorch that the addon was built against. Run again after a change of the list or of the torch version.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { native } from '../src/tensor/native.ts';

const plain: Record<string, string> = {
  Tensor: 'Handle',
  Scalar: 'Scalar',
  int: 'number',
  SymInt: 'number',
  float: 'number',
  bool: 'boolean',
  str: 'string',
  Device: 'string',
  ScalarType: 'number',
  Layout: 'number',
  MemoryFormat: 'number',
  Generator: 'GeneratorHandle',
};

function typeScript(type: string): string {
  const bare = type.replace(/\([a-z!|* ->]+\)/g, '');
  const optional = bare.endsWith('?') && !bare.endsWith(']?') ? bare.slice(0, -1) : bare;
  if (bare.endsWith('?')) return `${typeScript(bare.slice(0, -1))} | null`;
  const list = /^(.+)\[(\d*)\]$/.exec(optional);
  if (list) {
    const element = typeScript(list[1] ?? '');
    const array = `readonly ${element.includes('|') ? `(${element})` : element}[]`;
    return list[2] ? `${array} | ${element}` : array;
  }
  const known = plain[optional];
  if (!known) throw new Error(`no TypeScript type for ${type}`);
  return known;
}

const camel = (name: string): string => name.replace(/(?<=[^_])_+([a-zA-Z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** `name(args) -> returns` split at top-level commas. */
function parse(schema: string): { parameters: string[]; returns: string[] } {
  const arrow = schema.lastIndexOf(' -> ');
  const split = (text: string): string[] => {
    const parts: string[] = [];
    let depth = 0;
    let part = '';
    for (const c of text) {
      if (c === '(' || c === '[') depth++;
      if (c === ')' || c === ']') depth--;
      if (c === ',' && depth === 0) {
        parts.push(part.trim());
        part = '';
      } else part += c;
    }
    return [...parts, part.trim()].filter(Boolean);
  };
  const returned = schema.slice(arrow + 4);
  return {
    parameters: split(schema.slice(schema.indexOf('(') + 1, schema.lastIndexOf(')', arrow))).filter((p) => p !== '*'),
    returns: split(returned.startsWith('(') ? returned.slice(1, -1) : returned).map((type) => type.split(' ')[0] ?? ''),
  };
}

const reserved = new Set(['self', 'where', 'in', 'var', 'input', 'end']);

function declaration(line: string): string {
  const [name = '', overload = ''] = line.split('.');
  const schema = native.schema(name, overload);
  if (schema === null) throw new Error(`libtorch ${native.version()} has no operator ${line}`);
  const { parameters, returns } = parse(schema);
  let optionalFrom = parameters.length;
  while (optionalFrom > 0 && /=/.test(parameters[optionalFrom - 1] ?? '')) optionalFrom--;
  const typed = parameters.map((parameter, i) => {
    const [declared = '', fallback] = parameter.split('=');
    const at = declared.lastIndexOf(' ');
    const argument = camel(declared.slice(at + 1));
    const type = typeScript(declared.slice(0, at));
    return `${argument}${i >= optionalFrom ? '?' : ''}: ${type}${fallback !== undefined && i < optionalFrom ? ' | undefined' : ''}`;
  });
  const fresh = returns.filter((type) => !type.includes('!')).map(typeScript);
  const result = fresh.length === 0 ? 'void' : fresh.length === 1 ? fresh[0] : `[${fresh.join(', ')}]`;
  const variant = camel(overload);
  const short = camel(name.slice(name.indexOf('::') + 2)) + variant.charAt(0).toUpperCase() + variant.slice(1);
  const identifier = reserved.has(short) ? `${short}Op` : short;
  return `/** \`${schema}\` */\nexport const ${identifier} = operator<(${typed.join(', ')}) => ${result?.replace('readonly ', '')}>('${name}', '${overload}');`;
}

const folder = import.meta.dirname;
const names = readFileSync(join(folder, 'operators.txt'), 'utf8')
  .split('\n')
  .filter((line) => line && !line.startsWith('#'));
const lines = names.map(declaration);
const types = ['GeneratorHandle', 'Handle', 'Scalar'].filter((type) => lines.some((line) => new RegExp(`\\b${type}\\b`).test(line)));
const header = `// Made by scripts/generate-ops.ts from the operator schemas of libtorch; do not edit.
import { ${types.map((type) => `type ${type}`).join(', ')}, operator } from './native.ts';
`;
writeFileSync(join(folder, '../src/tensor/ops.generated.ts'), `${header}\n${lines.join('\n\n')}\n`);
console.error(`${names.length} operators of libtorch ${native.version()}`);
