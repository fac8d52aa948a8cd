export { enableGrad, gradients, isGradEnabled, noGrad } from './autograd.ts';
export * from './create.ts';
export { type Device, hasCuda, libtorch, liveTensors, memory, setThreads, threads } from './device.ts';
export { type Flight, LostRankError, type Patience, type Place, ProcessGroup, type Traffic } from './distributed.ts';
export { type DType, dtypeBytes, isFloating } from './dtype.ts';
export * from './functional.ts';
export { type GgufFile, type GgufValue, openGguf } from './gguf.ts';
export { type GgufField, type GgufTensor, type GgufType, ggufTypes, writeGguf } from './gguf-write.ts';
export type { Scalar, TypedArray } from './native.ts';
export { Generator, manualSeed } from './random.ts';
export {
  openSafetensors,
  type SafetensorsFile,
  streamSafetensors,
  type TensorToWrite,
  type WeightSource,
  writeSafetensors,
} from './safetensors.ts';
export { outliving, Scope } from './scope.ts';
export { sizes } from './sizes.ts';
export { type Dims, type Nested, Tensor } from './tensor.ts';
export { openTorchFile } from './torch-file.ts';
export { openWeights } from './weight-files.ts';
