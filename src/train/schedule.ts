/** How the learning rate moves over the steps of a stage: it rises in a line over `warmupSteps`, then falls to `finalRatio` of its peak. */
export interface Schedule {
  readonly shape: 'cosine' | 'linear' | 'constant';
  readonly warmupSteps: number;
  readonly steps: number;
  readonly finalRatio: number;
}

/** What the peak learning rate is multiplied by at `step`, counted from 0; as in Hugging Face's Trainer, the first step of a warm-up is 0. */
export function learningRateFactor(step: number, { shape, warmupSteps, steps, finalRatio }: Schedule): number {
  if (step < warmupSteps) return step / warmupSteps;
  if (shape === 'constant') return 1;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps));
  const falling = shape === 'cosine' ? 0.5 * (1 + Math.cos(Math.PI * progress)) : 1 - progress;
  return falling * (1 - finalRatio) + finalRatio;
}
