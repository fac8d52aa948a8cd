// Fits a line with autograd: npx tsx examples/tensor.ts
import { Generator, noGrad, randn, Scope, tensor } from '../src/tensor/index.ts';

const generator = new Generator(0);
const x = randn([100, 1], { generator });
const y = x
  .mul(3)
  .sub(0.5)
  .add(randn([100, 1], { generator }).mul(0.1));
const slope = tensor([[0]]).requiresGrad_();
const offset = tensor([0]).requiresGrad_();

for (let step = 0; step < 200; step++) {
  using _scope = new Scope();
  x.matmul(slope).add(offset).sub(y).square().mean().backward();
  noGrad(() => {
    for (const parameter of [slope, offset]) {
      if (parameter.grad) parameter.sub_(parameter.grad, { alpha: 0.1 });
      parameter.grad = undefined;
    }
  });
}
console.log(`y = ${slope.item().toFixed(2)} x ${offset.item() < 0 ? '-' : '+'} ${Math.abs(offset.item()).toFixed(2)}`);
