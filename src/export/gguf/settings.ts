import { ConfigError } from '../../errors.ts';
import type { PartConfig } from '../../model/part.ts';
import type { GgufField } from '../../tensor/gguf-write.ts';

/** Metadata of an architecture, by the names behind its prefix. */
export type Fields = Readonly<Record<string, GgufField>>;

/** A whole number, or one for each layer. */
export const whole = (value: number | readonly number[]): GgufField => ({ type: 'uint32', value });
/** A number in 32 bits. */
export const float = (value: number | readonly number[]): GgufField => ({ type: 'float32', value });
/** A text. */
export const text = (value: string): GgufField => ({ type: 'string', value });
/** Yes or no. */
export const flag = (value: boolean): GgufField => ({ type: 'bool', value });

/** Settings of a part as numbers, texts and flags; schemas have checked what they are. */
export class PartSettings {
  readonly config: PartConfig;

  constructor(config: PartConfig) {
    this.config = config;
  }

  number(name: string): number {
    return Number(this.config[name]);
  }
  optional(name: string): number | undefined {
    const value = this.config[name];
    return typeof value === 'number' ? value : undefined;
  }

  /** Throws ConfigError unless `holds`: llama.cpp computes such a model with one value of the setting, whatever its file says. */
  demand(holds: boolean, setting: string, what: string): void {
    if (holds) return;
    const value = JSON.stringify(this.config[setting]);
    throw new ConfigError(`gguf: llama.cpp's ${this.config.type} has ${what}; ${setting} is ${value ?? 'unset'} here`, {
      hint: 'convert it with --to hf instead',
    });
  }
}
