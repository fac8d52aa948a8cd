import { Command } from 'commander';
import { collect, type ModelFlags, modelArgument, openModel, withModelOptions } from './options.ts';
import { print, printJson } from './print.ts';

/** The verb `logits`. */
export function logitsCommand(): Command {
  const command = new Command('logits')
    .description('the scores of every next token of a raw prompt, for comparing implementations')
    .argument('<model>', modelArgument)
    .requiredOption('--prompt <text>', 'text as it is, without a template; <image> marks each image')
    .option('--image <file>', 'image; may be given again', collect)
    .requiredOption('--out <file>', 'safetensors file for input_ids, logits and image_features');
  return withModelOptions(command).action(async (path: string, flags: ModelFlags & { prompt: string; image?: string[]; out: string }) => {
    const [{ promptLogits }, { writeSafetensors }] = await Promise.all([
      import('../generate/logits.ts'),
      import('../tensor/safetensors.ts'),
    ]);
    const model = await openModel(path, flags);
    const { inputIds, logits, imageFeatures } = await promptLogits(model, { prompt: flags.prompt, images: flags.image ?? [] });
    const tensors = { input_ids: inputIds, logits, ...(imageFeatures && { image_features: imageFeatures }) };
    writeSafetensors(flags.out, Object.entries(tensors));
    const shapes = Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, shape]));
    if (flags.json) printJson({ out: flags.out, shapes });
    else
      print(
        `${flags.out}: ${Object.entries(shapes)
          .map(([name, shape]) => `${name} [${shape.join(', ')}]`)
          .join(', ')}`,
      );
  });
}
