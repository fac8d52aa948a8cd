import { z } from 'zod';
import type { Json } from '../part.ts';
import { type HeadFields, headSizes } from './shape.ts';

/** Settings of rotary positions, as config.json's `rope_parameters` has them, with a family's own base. */
export function ropeParameters(theta = 10_000) {
  const ropeTheta = z.number().positive().default(theta);
  return z
    .discriminatedUnion('ropeType', [
      z.strictObject({ ropeType: z.literal('default'), ropeTheta }),
      z.strictObject({ ropeType: z.literal('linear'), ropeTheta, factor: z.number().positive() }),
      z.strictObject({
        ropeType: z.literal('llama3'),
        ropeTheta,
        factor: z.number().positive(),
        lowFreqFactor: z.number().positive(),
        highFreqFactor: z.number().positive(),
        originalMaxPositionEmbeddings: z.int().positive(),
      }),
    ])
    .default({ ropeType: 'default', ropeTheta: theta });
}

/** transformers before 5 wrote `rope_theta` and `rope_scaling` (with `type` for `rope_type`) beside each other. */
export function readRope({ rope_theta, rope_scaling, rope_parameters, ...json }: Json): Json {
  const { type, ...found } = { ...((rope_scaling ?? rope_parameters ?? {}) as Json) };
  const rope_type = found['rope_type'] ?? type ?? 'default';
  const theta = found['rope_theta'] ?? rope_theta;
  const length = rope_type === 'llama3' ? { original_max_position_embeddings: json['max_position_embeddings'] } : {};
  return { ...json, rope_parameters: { ...length, ...found, rope_type, ...(theta === undefined ? {} : { rope_theta: theta }) } };
}

/** Both spellings go out, so that transformers before and since 5 read the same. */
export function writeRope({ rope_parameters, ...json }: Json): Json {
  const { rope_theta, ...scaling } = rope_parameters as Json;
  return { ...json, rope_parameters, rope_theta, rope_scaling: scaling['rope_type'] === 'default' ? null : scaling };
}

/** The share of a head that is rotated, from its first element on. */
export const partialRotaryFactor = z.number().positive().max(1);

/** How many elements of a head are rotated. */
export function rotatedSize(headSize: number, factor: number): number {
  return Math.trunc(headSize * factor);
}

/** A schema's refinement: the rotated elements pair up. */
export function checkRotated(config: HeadFields & { readonly partialRotaryFactor: number }, context: z.RefinementCtx): void {
  const rotated = rotatedSize(headSizes(config).headSize, config.partialRotaryFactor);
  if (rotated > 0 && rotated % 2 === 0) return;
  context.addIssue({
    code: 'custom',
    path: ['partialRotaryFactor'],
    message: `rotates ${rotated} elements of a head, which must be even and some`,
  });
}

/** transformers since 5 keeps the share among the rotary settings. */
export function readPartialRope(json: Json): Json {
  const { rope_parameters, ...rest } = readRope(json);
  const { partial_rotary_factor = json['partial_rotary_factor'], ...parameters } = rope_parameters as Json;
  return { ...rest, rope_parameters: parameters, ...(partial_rotary_factor === undefined ? {} : { partial_rotary_factor }) };
}

/** The inverse of `readPartialRope`, in both spellings. */
export function writePartialRope(json: Json): Json {
  const { rope_parameters, partial_rotary_factor, ...rest } = writeRope(json);
  return { ...rest, partial_rotary_factor, rope_parameters: { ...(rope_parameters as Json), partial_rotary_factor } };
}
