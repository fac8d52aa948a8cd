import type { Benchmark, Peer } from './harness.ts';

const memory = { name: 'peak memory', unit: 'MB', better: 'lower', target: 0.9 } as const;

const evaluations = ['pope', 'mme'].flatMap((shape) => ['196', '729'].map((tokens) => [shape, tokens]));

const padding = "transformers' Trainer on Llava, batches padded to the longest, logits of all positions";

/** Ways to train that users would pick instead. */
const trainers: readonly Peer[] = [
  { name: 'factory', how: `${padding}, gradient checkpointing, plain AdamW: TinyLLaVA Factory's settings` },
  { name: 'trainer', how: `${padding}, fused AdamW` },
  { name: 'fused-loss', how: "the same with head and loss in chunks over supervised positions, as Liger's kernels do on GPUs" },
  { name: 'compiled', how: 'a plain loop on the same batches, layers under torch.compile, whose own time is not counted', compiles: true },
  {
    name: 'packed',
    how: "a plain loop in nanoVLM's manner on batches without padding, positions restarting and attention kept apart by a mask",
  },
];

/** Every question that `npm run bench` answers; each is a folder with `ours.ts` and `theirs.py`. */
export const benchmarks: readonly Benchmark[] = [
  {
    name: 'operators',
    question: 'How long is one call of a small operator, on tensors of 4 x 4?',
    variants: [[]],
    metrics: ['add', 'add with grad', 'view', 'view with grad', 'matmul', 'matmul with grad'].map((name) => ({
      name,
      unit: 'ns',
      better: 'lower',
      target: 0.8,
    })),
  },
  {
    name: 'llama-step',
    question:
      'How long is one optimizer step of a Llama (8 layers, width 512, 8 heads, MLP 1408, vocabulary 8192, untied) in float32 with AdamW on 8 x 256 tokens, all supervised, gradients clipped?',
    variants: [[]],
    metrics: [{ name: 'step', unit: 'ms', better: 'lower', target: 1 }, memory],
  },
  {
    name: 'llava-step',
    question:
      'How many samples a second go through a training step of a LLaVA (SigLIP of 4 layers of 256 at 224/16, two-layer MLP, Llama of 8 layers of 512 with a vocabulary of 32000) in float32 on 8 captions of 10 to 50 tokens, 30 on average, behind 196 image tokens?',
    variants: [['align'], ['instruct']],
    metrics: [
      { name: 'throughput', unit: 'samples/s', better: 'higher', target: 1.5 },
      { name: 'peak memory', unit: 'MB', better: 'lower' },
    ],
  },
  {
    name: 'demo-step',
    question:
      'How many samples a second go through a training step of the demo (EfficientNet-Lite0, frozen, its features kept from step to step by us; two-layer MLP; a SmolLM2-135M-shaped Llama) in float32 on 4 captions of 15 to 47 tokens, 31 on average, behind 49 image tokens?',
    variants: [['align'], ['instruct']],
    metrics: [
      { name: 'throughput', unit: 'samples/s', better: 'higher', target: 2 },
      { name: 'peak memory', unit: 'MB', better: 'lower' },
    ],
  },
  {
    name: 'smol-step',
    question:
      "How many samples a second go through a training step of a LLaVA around SmolLM2-135M's shape (SigLIP-base with patches of 32, two-layer MLP; random weights) on 4 captions of 15 to 47 tokens behind 49 image tokens? bfloat16 is computing in bfloat16 by float32 weights: in halves here, autocast in Python.",
    variants: ['align', 'instruct'].flatMap((stage) => ['float32', 'bfloat16'].map((precision) => [stage, precision])),
    metrics: [
      { name: 'throughput', unit: 'samples/s', better: 'higher', target: 2 },
      { name: 'peak memory', unit: 'MB', better: 'lower', target: 0.5 },
    ],
    tolerance: 5e-3,
  },
  {
    name: 'train-step',
    question:
      "How many samples a second go through training steps of a LLaVA around SmolLM2-135M's shape with a SigLIP-base tower of 196 or 729 image tokens (frozen; two-layer MLP; random weights)? align: a batch of 4 captions of 17 to 46 tokens, 30 on average, the language model frozen. instruct: two batches of 3, conversations of 79 to 481 tokens behind an image and one of 600 without, in the order of Factory's sampler by modality. Every image is new; the last metric has ours with images that it has seen before, whose features it keeps. bfloat16 is computing in bfloat16 by float32 weights: in halves here, autocast in Python. Python takes a batch at once, ours its own micro-batches.",
    variants: ['align', 'instruct'].flatMap((stage) =>
      ['196', '729'].flatMap((tokens) => ['float32', 'bfloat16'].map((precision) => [stage, tokens, precision])),
    ),
    peers: trainers,
    metrics: [
      { name: 'throughput', unit: 'samples/s', better: 'higher', target: 2 },
      { name: 'CPU time', unit: 'seconds a sample', better: 'lower' },
      { name: 'peak memory', unit: 'MB', better: 'lower', target: 0.5 },
      { name: 'throughput, images seen before', against: 'throughput', unit: 'samples/s', better: 'higher' },
    ],
    tolerance: 5e-3,
  },
  {
    name: 'decode',
    question:
      'How many tokens a second does greedy decoding give at batch 1, of a SmolLM2-135M-shaped model (30 layers, width 576, 9/3 heads, MLP 1536, vocabulary 49152, tied) with random weights, after a prompt of 128 tokens?',
    variants: [['float32'], ['bfloat16']],
    metrics: [
      { name: 'decode', unit: 'tokens/s', better: 'higher', target: 2 },
      { name: 'prefill', unit: 'tokens/s', better: 'higher' },
      { name: 'peak memory', unit: 'MB', better: 'lower' },
    ],
  },
  {
    name: 'eval-pope',
    question:
      'How many questions a second are answered with two tokens in float32, 18 about an image (as POPE asks) and 2 (as MME does), by a SmolLM2-135M-shaped model (random weights) behind a SigLIP-base with 196 and 729 image tokens? Ours is a whole evaluation in batches of 32, from the Parquet file to the scores on disk; in Python a loop over batches of 16 with transformers, its answers alone.',
    variants: evaluations,
    metrics: [
      { name: 'questions', unit: 'a second', better: 'higher', target: ([shape]) => (shape === 'pope' ? 4 : 1.5) },
      { name: 'peak memory', unit: 'MB', better: 'lower' },
    ],
    tolerance: 0,
  },
  {
    name: 'eval-lmms',
    question:
      'The same against lmms-eval 0.7.3 with its llava_hf model, which answers one question at a time: ours is a whole evaluation, of lmms-eval the time of its answers alone counts.',
    needs: 'lmms_eval',
    variants: evaluations,
    metrics: [
      { name: 'questions', unit: 'a second', better: 'higher', target: ([shape]) => (shape === 'pope' ? 10 : 3) },
      { name: 'peak memory', unit: 'MB', better: 'lower' },
    ],
    tolerance: 0,
  },
];
