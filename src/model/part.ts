import { z } from 'zod';
import { camelCase, snakeCase } from '../nn/module.ts';
import { check } from './registry.ts';

/** Settings of one part: `type` names it in its registry, the rest is what the part's schema says. */
export interface PartConfig {
  readonly type: string;
  readonly [setting: string]: unknown;
}

/** A JSON object. */
export type Json = Record<string, unknown>;

/** A kind of tower, connector or language model: how its settings are read and written, and how it is made. */
export interface Part<Made, Context> {
  /** `model_type` of its section in a Hugging Face config.json. */
  readonly modelType: string;
  /** What its settings must be. */
  readonly schema: z.ZodType;
  /** The settings with every default filled in. Throws ConfigError. */
  parse(config: unknown, where: string): PartConfig;
  /** Makes the module, without memory, from settings that `parse` gave. */
  create(config: PartConfig, context: Context): Made;
  /** Settings from a section of config.json; fields that make no difference to the maths are passed over. Throws ConfigError. */
  fromJson(json: Json, type: string, place: { readonly file: string; readonly where?: string }): PartConfig;
  /** The section of config.json that gives these settings. */
  toJson(config: PartConfig): Json;
  /** Whether transformers' LLaVA has this part with these settings. */
  inTransformers(config: PartConfig): boolean;
}

/** What a part's file says about itself. Settings are the fields of config.json in camel case; `read` and `write` mend exceptions. */
export interface PartDefinition<Schema extends z.ZodObject, Made, Context> {
  readonly modelType: string;
  readonly schema: Schema;
  readonly make: new (config: z.output<Schema>, context: Context) => Made;
  /** From what is found in files to the fields of the schema, still in snake case. */
  readonly read?: (json: Json) => Json;
  readonly write?: (json: Json) => Json;
  /** Whether transformers' LLaVA has this part; it does not unless said so. */
  readonly inTransformers?: (config: z.output<Schema>) => boolean;
}

function renameKeys(value: unknown, rename: (key: string) => string): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [rename(key), renameKeys(inner, rename)]));
}

/**
 * A section without the fields that have these defaults. transformers refuses a whole number where it wants a float, and JSON.stringify
 * writes 1.0 as 1.
 */
export function withoutDefaults(json: Json, defaults: Json): Json {
  return Object.fromEntries(Object.entries(json).filter(([key, value]) => defaults[key] !== value));
}

/** A registry's entry. */
export function part<Schema extends z.ZodObject, Made, Context = undefined>({
  modelType,
  schema,
  make,
  read = (json) => json,
  write = (json) => json,
  inTransformers = () => false,
}: PartDefinition<Schema, Made, Context>): Part<Made, Context> {
  const fields = z.object(schema.shape);
  const known = new Set(Object.keys(fields.shape));
  return {
    modelType,
    schema,
    parse: (config, where) => check(schema, config, { where }) as unknown as PartConfig,
    create: (config, context) => new make(config as unknown as z.output<Schema>, context),
    fromJson: (json, type, place) => {
      const settings = Object.entries(renameKeys(read(json), camelCase) as Json);
      // Configurations of Hugging Face carry dozens of fields; null is how they say "the default".
      const kept = Object.fromEntries(settings.filter(([key, value]) => known.has(key) && value !== null));
      return check(schema, { ...kept, type }, { ...place, spell: snakeCase }) as unknown as PartConfig;
    },
    inTransformers: (config) => inTransformers(config as unknown as z.output<Schema>),
    toJson: ({ type: _, ...settings }) => write({ model_type: modelType, ...(renameKeys(settings, snakeCase) as Json) }),
  };
}
