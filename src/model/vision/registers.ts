import { z } from 'zod';
import { cat } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import type { Json } from '../part.ts';

/**
 * Which tokens of a tower with registers are features: the patches, with the class token, with the registers, or all. transformers' LLaVA
 * drops the first token alone under `default`, which is `register_patch` here.
 */
export const TokenSelection = z.enum(['patch', 'cls_patch', 'register_patch', 'full']).default('patch');
export type TokenSelection = z.output<typeof TokenSelection>;

/** How many tokens stand before the patches when `select` has chosen. */
export function extraTokens(select: TokenSelection, registers: number): number {
  return { patch: 0, cls_patch: 1, register_patch: registers, full: 1 + registers }[select];
}

/** The chosen ones of `x` [B, 1 + registers + patches, C]: class token, registers, patches. */
export function selectTokens(x: Tensor, select: TokenSelection, registers: number): Tensor {
  if (select === 'full') return x;
  const first = 1 + (select === 'register_patch' ? 0 : registers);
  const rest = x.narrow(1, first, x.size(1) - first);
  return select === 'cls_patch' ? cat([x.narrow(1, 0, 1), rest], 1) : rest;
}

/** `feature_layer` and `select` from the fields of a LLaVA, or of a tower's own folder. */
export function readSelection({ vision_feature_layer, vision_feature_select_strategy: strategy, ...json }: Json): Json {
  const chosen = strategy === 'full' ? 'full' : strategy === 'default' ? 'register_patch' : 'patch';
  return { ...json, feature_layer: vision_feature_layer ?? null, select: json['select'] ?? chosen };
}

/** The inverse of `readSelection`; what LLaVA's two strategies cannot say stands in the tower's own section. */
export function writeSelection({ feature_layer, select, ...json }: Json): Json {
  const plain = select === 'full' || select === 'register_patch';
  return {
    ...json,
    ...(plain ? {} : { select }),
    vision_feature_layer: feature_layer,
    vision_feature_select_strategy: select === 'full' ? 'full' : 'default',
  };
}
