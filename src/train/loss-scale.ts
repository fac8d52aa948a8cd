const start = 2 ** 16;
const patience = 2000;

/** What a loss scale remembers. */
export interface LossScaleState {
  readonly factor: number;
  readonly soundSteps: number;
}

/**
 * What the loss is multiplied by so that float16 gradients do not vanish: it is halved, and the step skipped, when they overflow, and doubled
 * after 2,000 sound steps, as PyTorch's GradScaler does. Micikevicius et al. 2018, arXiv:1710.03740.
 */
export class LossScale {
  #factor: number;
  #soundSteps: number;

  constructor({ factor = start, soundSteps = 0 }: Partial<LossScaleState> = {}) {
    this.#factor = factor;
    this.#soundSteps = soundSteps;
  }

  get factor(): number {
    return this.#factor;
  }

  get state(): LossScaleState {
    return { factor: this.#factor, soundSteps: this.#soundSteps };
  }

  /** Counts a step; false when its gradients overflowed although they are not scaled up at all. */
  update({ overflowed }: { overflowed: boolean }): boolean {
    this.#soundSteps = overflowed ? 0 : this.#soundSteps + 1;
    if (overflowed && this.#factor === 1) return false;
    if (overflowed) this.#factor /= 2;
    if (this.#soundSteps === patience) {
      this.#factor *= 2;
      this.#soundSteps = 0;
    }
    return true;
  }
}
