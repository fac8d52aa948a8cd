/** Steps whose speed is averaged. */
const recent = 20;

/** How long training has taken, and how fast the last steps were. */
export class Pace {
  #seconds = 0;
  readonly #steps: { readonly tokens: number; readonly seconds: number }[] = [];

  /** Counts a step. */
  add(step: { readonly tokens: number; readonly seconds: number }): void {
    this.#seconds += step.seconds;
    this.#steps.push(step);
    if (this.#steps.length > recent) this.#steps.shift();
  }

  /** Of all steps. */
  get seconds(): number {
    return this.#seconds;
  }

  /** Over the last steps. */
  get tokensPerSecond(): number {
    return this.#sum('tokens') / this.#sum('seconds');
  }

  /** What so many steps will take at the speed of the last ones. */
  secondsFor(steps: number): number {
    return (steps * this.#sum('seconds')) / this.#steps.length;
  }

  #sum(key: 'tokens' | 'seconds'): number {
    return this.#steps.reduce((sum, step) => sum + step[key], 0);
  }
}
