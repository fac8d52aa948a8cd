import { Command, Option } from 'commander';
import { findModel } from './hub.ts';
import { interruptible } from './interrupt.ts';
import { columns, print, printJson } from './print.ts';

interface ConvertFlags {
  readonly to: string;
  readonly dtype?: 'float32' | 'bfloat16' | 'float16';
  readonly type?: string;
  readonly template?: string;
  readonly force?: true;
  readonly json?: true;
}

/** The verb `convert`. */
export function convertCommand(): Command {
  return new Command('convert')
    .description('a model in another format: for transformers, TinyLLaVA Factory or llama.cpp')
    .argument('<model>', 'checkpoint folder, GGUF file or hub id')
    .argument('<destination>', 'folder to make, or a file that ends in .gguf')
    .requiredOption('--to <format>', 'hf, factory-v1 or gguf')
    .addOption(
      new Option('--dtype <name>', 'precision in hf and factory-v1; as stored unless given').choices(['float32', 'bfloat16', 'float16']),
    )
    .option('--type <name>', 'how gguf stores matrices: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0; 16 bits unless given')
    .option('--template <name>', "chat template by name, in place of the model's")
    .option('--force', 'replace a model that is there')
    .option('--json', 'print one JSON document')
    .action(async (source: string, destination: string, { json, ...options }: ConvertFlags) => {
      const { convert } = await import('../export/convert.ts');
      const path = await findModel(source);
      const made = await interruptible((signal) => convert(path, destination, { ...options, signal }));
      if (json) return printJson(made);
      for (const line of columns(made.files.map(({ path, bytes }) => [path, bytes]))) print(line);
      for (const note of made.notes) process.stderr.write(`note: ${note}\n`);
    });
}
