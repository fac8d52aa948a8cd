import { TinyLlavaError } from '../../errors.ts';
import type { Device } from '../../tensor/device.ts';
import type { DType } from '../../tensor/dtype.ts';
import { openSafetensors } from '../../tensor/safetensors.ts';
import { openTorchFile } from '../../tensor/torch-file.ts';
import { type KeyRows, translated } from '../dialect.ts';
import type { TinyLlava } from '../tinyllava.ts';
import { connectorRows } from './connector-rows.ts';

const rows: KeyRows = [
  [/^(?:model\.)?mm_projector\.|^(?:connector\.)?_connector\.|^(?:model\.)?multi_modal_projector\./, ''],
  ...connectorRows,
];

/**
 * Takes the weights of a model's connector from a file of it alone: LLaVA's `mm_projector.bin`, TinyLLaVA Factory's
 * `connector/pytorch_model.bin`, or either as safetensors. They get the dtype of the language model unless told otherwise. Throws
 * CheckpointError.
 */
export function loadConnector(model: TinyLlava, path: string, { dtype, device }: { dtype?: DType; device?: Device } = {}): void {
  const { connector, languageModel } = model;
  if (!connector) throw new TinyLlavaError('this model is a language model alone: it has no connector');
  const wanted = new Set(Array.from(connector.namedParameters(), ([key]) => key));
  const weights = path.endsWith('.safetensors') ? openSafetensors(path) : openTorchFile(path);
  connector.load(translated(weights, rows, wanted), { dtype: dtype ?? languageModel.headWeight.dtype, ...(device && { device }) });
}
