import { Module } from '../../nn/module.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** What a connector stands between. */
export interface ConnectorContext {
  /** Width of the tower's features. */
  readonly visionSize: number;
  /** Tokens that the tower makes of an image. */
  readonly visionTokens: number;
  /** Width of the language model. */
  readonly languageSize: number;
}

/** What turns a tower's features into the language model's embeddings. Dims: B images, N tokens in, M tokens out. */
export abstract class Connector extends Module {
  /** How many tokens come out when `visionTokens` go in. */
  abstract tokens(visionTokens: number): number;

  /** `features` [B, N, visionSize] to [B, M, languageSize]. */
  abstract forward(features: Tensor): Tensor;
}
