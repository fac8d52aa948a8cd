import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ChatModel } from '../generate/generate.ts';
import type { SamplingOptions } from '../generate/sample.ts';
import type { Device } from '../tensor/device.ts';
import type { DType } from '../tensor/dtype.ts';
import { findModel } from './hub.ts';

/** Where a command computes. */
export interface DeviceFlags {
  readonly device?: Device | undefined;
  readonly threads?: number | undefined;
  readonly json?: true;
}

/** Where and how a model runs. */
export interface ModelFlags extends DeviceFlags {
  readonly dtype?: DType | undefined;
  readonly mapped?: true | undefined;
  readonly template?: string | undefined;
  readonly adapter?: string | undefined;
  readonly base?: string | undefined;
}

/** How long an answer is and how its tokens are chosen. */
export interface AnswerFlags extends SamplingOptions {
  readonly maxNewTokens?: number;
  readonly stop?: string[];
}

/** What a command says of the model that it takes. */
export const modelArgument = 'checkpoint folder, GGUF file or hub id (owner/name, owner/name@revision)';

/** Reads a whole number that is at least `least`, and at most `most`. */
export function wholeNumber(least: number, most?: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least || value > (most ?? value))
      throw new InvalidArgumentError(`expected a whole number from ${least}${most === undefined ? '' : ` to ${most}`}`);
    return value;
  };
}

/** Reads the address of a server. */
export function address(text: string): string {
  if (!/^https?:/i.test(text) || !URL.canParse(text))
    throw new InvalidArgumentError('expected an address such as http://localhost:8000/v1');
  return text;
}

/** Reads a number; what it may be is checked where it is used. */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('expected a number');
  return value;
}

function atLeastZero(text: string): number {
  const value = number(text);
  if (value < 0) throw new InvalidArgumentError('expected 0 or more');
  return value;
}

function aboveZero(text: string): number {
  const value = number(text);
  if (value <= 0) throw new InvalidArgumentError('expected more than 0');
  return value;
}

export function share(text: string): number {
  const value = atLeastZero(text);
  if (value > 1) throw new InvalidArgumentError('expected a share from 0 to 1');
  return value;
}

/** Collects the values of an option that may be given again and again. */
export const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];

function device(text: string): Device {
  if (!/^(cpu|cuda|cuda:\d+)$/.test(text)) throw new InvalidArgumentError('expected cpu, cuda or cuda:N');
  return text as Device;
}

/** Adds --device, --threads and --json. */
export function withDeviceOptions(command: Command): Command {
  return command
    .addOption(new Option('--device <name>', 'cpu, cuda or cuda:N; cpu unless given').argParser(device))
    .option('--threads <count>', 'threads of the CPU', wholeNumber(1))
    .option('--json', 'print one JSON document');
}

/** Adds --device, --dtype, --mapped, --template, --threads, --json, and where a LoRA adapter or its base is. */
export function withModelOptions(command: Command): Command {
  return withDeviceOptions(command)
    .addOption(new Option('--dtype <name>', 'precision; as stored unless given').choices(['float32', 'bfloat16', 'float16']))
    .option('--template <name>', 'chat template, where the model has none or another is wanted')
    .option('--mapped', 'leave the weights in their files: opens at once and takes less memory, answers more slowly')
    .option('--adapter <model>', 'LoRA adapter that is added to the model')
    .option('--base <model>', 'base of a model that is an adapter, in place of the one that it names');
}

/** Adds how long answers are and how tokens are chosen. */
export function withAnswerOptions(command: Command): Command {
  return command
    .option('--max-new-tokens <count>', 'most tokens of an answer', wholeNumber(1))
    .option('--temperature <number>', '0 takes the likeliest token always', atLeastZero, 0)
    .option('--top-k <count>', 'draw from this many tokens', wholeNumber(1))
    .option('--top-p <share>', 'draw from the likeliest tokens with this share', share)
    .option('--min-p <share>', 'draw from tokens this likely beside the likeliest', share)
    .option('--repetition-penalty <number>', 'above 1 repeats less', aboveZero)
    .option('--seed <number>', 'draw the same again', wholeNumber(0))
    .option('--stop <text>', 'end the answer here; may be given again', collect);
}

/** Sets the threads and checks the device. Throws ConfigError where there is no such device. */
export async function prepareDevice({ device = 'cpu', threads }: DeviceFlags): Promise<Device> {
  // Loaded when needed: help and doctor work without the addon.
  const [{ hasCuda, setThreads }, { ConfigError }] = await Promise.all([import('../tensor/device.ts'), import('../errors.ts')]);
  if (device.startsWith('cuda') && !hasCuda()) {
    throw new ConfigError(`--device ${device}: no CUDA device is found`, { hint: 'use --device cpu, or see `tinyllava doctor`' });
  }
  if (threads !== undefined) setThreads(threads);
  return device;
}

/** Opens a model as the flags say. Throws ConfigError where there is no such device, HubError where there is no such model. */
export async function openModel(path: string, { dtype, mapped, template, adapter, base, ...flags }: ModelFlags): Promise<ChatModel> {
  const [{ loadModel }, device] = await Promise.all([import('../generate/generate.ts'), prepareDevice(flags)]);
  const added = adapter === undefined ? undefined : await findModel(adapter);
  // The next line of a chat begins as the one before.
  return loadModel(await findModel(path), { device, dtype, mapped, template, adapter: added, base, remembered: 1 });
}
