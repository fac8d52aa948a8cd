// Asks a checkpoint about an image, in one piece and as it grows: npx tsx examples/answer.ts MODEL IMAGE QUESTION
import { loadModel } from '../src/index.ts';

const [folder = 'runs/quickstart/instruct', image = '', question = 'what shape is in the image?'] = process.argv.slice(2);
const model = await loadModel(folder);
const messages = [
  { role: 'user', content: image ? [{ type: 'image', image } as const, { type: 'text', text: question } as const] : question },
] as const;

const { text, finishReason } = await model.generate({ messages, maxNewTokens: 32 });
console.log(`${text} (${finishReason})`);

for await (const piece of model.stream({ messages, maxNewTokens: 32, temperature: 0.8, seed: 1 })) process.stdout.write(piece);
process.stdout.write('\n');
