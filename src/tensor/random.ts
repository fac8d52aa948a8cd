import { tensor } from './create.ts';
import type { Device } from './device.ts';
import { type GeneratorHandle, native } from './native.ts';
import { Scope } from './scope.ts';
import { Tensor } from './tensor.ts';

const collected = new FinalizationRegistry<GeneratorHandle>((handle) => native.freeGenerator(handle));

/** A stream of random numbers with its own state: the same seed gives the same numbers. */
export class Generator {
  readonly handle: GeneratorHandle;

  constructor(seed: number, { device = 'cpu' }: { device?: Device } = {}) {
    this.handle = native.generator(seed, device);
    collected.register(this, this.handle);
  }

  /** Everything needed to go on from here later; opaque bytes. */
  get state(): Uint8Array {
    using _scope = new Scope();
    return new Tensor(native.generatorState(this.handle)).toArray() as Uint8Array;
  }

  set state(bytes: Uint8Array) {
    using _scope = new Scope();
    native.setGeneratorState(this.handle, tensor(bytes).handle);
  }
}

/** Seeds libtorch's default generators, which `dropout` draws from. */
export const manualSeed = (seed: number): void => native.manualSeed(seed);
