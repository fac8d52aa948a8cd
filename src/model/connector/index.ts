import { identity } from './identity.ts';
import { linear } from './linear.ts';
import { mlp } from './mlp.ts';
import { pixelShuffle } from './pixel-shuffle.ts';

/** Connectors by the `type` in a configuration. */
export const connectors = { identity, linear, mlp, 'pixel-shuffle': pixelShuffle };
