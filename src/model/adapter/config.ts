import { z } from 'zod';
import { CheckpointError, ConfigError } from '../../errors.ts';
import { loraScale } from '../../nn/lora.ts';
import { check } from '../registry.ts';

/** The name of the file that makes a folder one of adapters. */
export const adapterConfigFile = 'adapter_config.json';

/** The fields of PEFT's LoraConfig that matter once the factors are there; who was to be changed shows in their names. */
const AdapterFields = z.looseObject({
  peft_type: z.string(),
  base_model_name_or_path: z.string().nullish(),
  r: z.int().positive().default(8),
  lora_alpha: z.number().default(8),
  lora_dropout: z.number().min(0).max(1).default(0),
  use_rslora: z.boolean().nullish(),
  use_dora: z.boolean().nullish(),
  alpha_pattern: z.record(z.string(), z.number()).nullish(),
  init_lora_weights: z.union([z.boolean(), z.string()]).nullish(),
});

/** The fields of an adapter_config.json that this package acts by. */
export type AdapterFields = z.output<typeof AdapterFields>;

/** Kinds of adapters that PEFT calls LoRA and that add something else than a product of two factors. */
const others = [
  'use_qalora',
  'use_bdlora',
  'lora_bias',
  'alora_invocation_tokens',
  'target_parameters',
  'trainable_token_indices',
  'layer_replication',
];
const otherConfigs = ['arrow_config', 'kasa_config', 'monteclora_config', 'velora_config'];

/** Beginnings that change the base weights, which PEFT does again whenever such an adapter is opened. */
const rewriting = /^(pissa|olora|corda|loftq|lora_ga)/;

const isSet = (value: unknown): boolean =>
  value !== undefined && value !== null && value !== false && !(Array.isArray(value) && value.length === 0);

/** Checks what an adapter_config.json says. Throws ConfigError, or CheckpointError that names the kind of adapter that is not read. */
export function parseAdapterConfig(json: unknown, file: string): AdapterFields {
  const fields = check(AdapterFields, json, { file });
  const refuse = (what: string, hint: string): never => {
    throw new CheckpointError(`${file}: ${what}`, { hint });
  };
  if (fields.peft_type !== 'LORA') refuse(`peft_type ${fields.peft_type}`, 'only LORA adapters are read; merge this one with PEFT');
  const strange = [...others, ...otherConfigs].find((name) => isSet(fields[name]));
  if (strange !== undefined) {
    refuse(`${strange} ${JSON.stringify(fields[strange])}: adapters of this kind are not read`, "merge them with PEFT's merge_and_unload");
  }
  const { init_lora_weights: init } = fields;
  if (typeof init === 'string' && rewriting.test(init)) {
    refuse(`init_lora_weights ${init} changes the weights of the base`, "convert it with PEFT's path_initial_model_for_weight_conversion");
  }
  return fields;
}

/** What B A of the layer with this name is multiplied by; names are those of the file. Throws ConfigError for a pattern that is none. */
export function scaleOf({ lora_alpha, alpha_pattern, use_rslora }: AdapterFields, name: string, rank: number): number {
  return loraScale({ rank, alpha: alphaOf({ lora_alpha, alpha_pattern }, name), rankStabilized: use_rslora ?? false });
}

/** The alpha of a layer: that of the first pattern which fits its whole name or the end of it, else that of all. */
export function alphaOf({ lora_alpha, alpha_pattern }: Pick<AdapterFields, 'lora_alpha' | 'alpha_pattern'>, name: string): number {
  for (const [pattern, alpha] of Object.entries(alpha_pattern ?? {})) if (patternFits(pattern, name)) return alpha;
  return lora_alpha;
}

function patternFits(pattern: string, name: string): boolean {
  try {
    return new RegExp(`^(?:.*\\.)?(?:${pattern})$`).test(name);
  } catch (cause) {
    throw new ConfigError(`alpha_pattern: "${pattern}" is no regular expression: ${(cause as Error).message}`, { cause });
  }
}
