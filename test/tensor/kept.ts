// Prints how many copies of its input a linear layer keeps for the backward pass, by the resident memory of this process: [learns, whether it stands right behind a norm]
import { ones, randn } from '../../src/tensor/create.ts';
import { memory } from '../../src/tensor/device.ts';
import { linear, rmsNorm } from '../../src/tensor/functional.ts';
import { Generator } from '../../src/tensor/random.ts';
import { Scope } from '../../src/tensor/scope.ts';

const [learns, direct] = JSON.parse(process.argv[2] ?? '[]') as [boolean, boolean];
const generator = new Generator(5);
const [rows, width] = [1 << 17, 256];
const x = randn([rows, width], { generator }).requiresGrad_();
const [scale, weight] = [ones([width]), randn([1, width], { generator }).requiresGrad_(learns)];
const before = memory().rssBytes;
const out = (() => {
  using scope = new Scope();
  const normed = rmsNorm(x, scale, 1e-6);
  return scope.keep(linear(direct ? normed : normed.mul(1), weight));
})();
const kept = (memory().rssBytes - before) / (4 * rows * width);
out.sum().backward();
process.stdout.write(JSON.stringify({ kept, shape: x.grad?.shape }));
