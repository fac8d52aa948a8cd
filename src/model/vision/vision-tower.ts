import { Module } from '../../nn/module.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** What turns images into features. Dims: B images, N tokens of an image, C width of the features. */
export abstract class VisionTower extends Module {
  /** Side of the square images, in pixels. */
  abstract readonly imageSize: number;
  /** Width of the features; several feature layers stand side by side. */
  abstract readonly hiddenSize: number;
  /** Tokens of one image. */
  abstract readonly tokens: number;

  /** `pixels` [B, 3, imageSize, imageSize], normalized, to features [B, N, C]. Throws ShapeError. */
  abstract forward(pixels: Tensor): Tensor;
}
