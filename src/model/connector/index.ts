import { cAbstractor } from './c-abstractor.ts';
import { classWords } from './class-words.ts';
import { identity } from './identity.ts';
import { ldpV2 } from './ldp-v2.ts';
import { linear } from './linear.ts';
import { mlp } from './mlp.ts';
import { mofMlp } from './mof-mlp.ts';
import { pixelShuffle } from './pixel-shuffle.ts';
import { pixelShuffleMlp } from './pixel-shuffle-mlp.ts';
import { qformer } from './qformer.ts';
import { resampler } from './resampler.ts';

/** Connectors by the `type` in a configuration. */
export const connectors = {
  identity,
  linear,
  mlp,
  'pixel-shuffle': pixelShuffle,
  'pixel-shuffle-mlp': pixelShuffleMlp,
  'ldp-v2': ldpV2,
  'c-abstractor': cAbstractor,
  resampler,
  qformer,
  'mof-mlp': mofMlp,
  'class-words': classWords,
};
