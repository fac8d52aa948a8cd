import { Template as Jinja } from '@huggingface/jinja';
import { ConfigError, DataError } from '../errors.ts';
import { contentParts, type Message } from './message.ts';

/** Values of the special tokens that a chat template may name. */
export interface TemplateTokens {
  readonly bosToken?: string | undefined;
  readonly eosToken?: string | undefined;
  readonly padToken?: string | undefined;
  readonly unkToken?: string | undefined;
  /** What stands for an image in the rendered text. */
  readonly imageToken: string;
}

/** A rendered conversation; `generated` are the ranges between `{% generation %}` and `{% endgeneration %}`, none when the template does not mark them. */
export interface Rendered {
  readonly text: string;
  readonly generated: readonly (readonly [start: number, end: number])[];
}

// private-use characters that stand where the marks of generated text are, until they are taken out again
const open = '\uF8F0';
const close = '\uF8F1';

/** A chat template: the Jinja text that a checkpoint keeps in `chat_template.jinja` and that Python's `apply_chat_template` renders to the same string. */
export class ChatTemplate {
  readonly source: string;
  /** Whether the template marks what the assistant says with `{% generation %}`. */
  readonly marksGenerated: boolean;
  readonly #jinja: { render(variables: Record<string, unknown>): string };
  readonly #tokens: TemplateTokens;
  /** What content may be; a string is quicker than parts where both give the same. */
  readonly #takes: { readonly parts: boolean; readonly strings: boolean };

  /** Throws ConfigError when `source` is not a template that can be parsed. */
  constructor(source: string, tokens: TemplateTokens) {
    this.source = source;
    this.marksGenerated = /{%-?\s*generation\s*-?%}/.test(source);
    this.#tokens = tokens;
    try {
      this.#jinja = new Jinja(showMarks(source)) as { render(variables: Record<string, unknown>): string };
    } catch (cause) {
      throw new ConfigError(`the chat template cannot be parsed: ${(cause as Error).message}`, { cause });
    }
    this.#takes = this.#tryOut();
  }

  /**
   * The text of a conversation. Images appear as the image token; `generationPrompt` ends the text where the assistant's answer begins.
   * Throws DataError when the template refuses the conversation.
   */
  render(messages: readonly Message[], { generationPrompt = false }: { generationPrompt?: boolean } = {}): Rendered {
    const given = messages.map((message) => ({ role: message.role, content: this.#content(message) }));
    try {
      const text = this.#render(given, generationPrompt);
      return this.marksGenerated ? takeMarks(text) : { text, generated: [] };
    } catch (cause) {
      throw new DataError(
        `the chat template refuses the conversation (${messages.map(({ role }) => role).join(', ')}): ${(cause as Error).message}`,
        {
          hint: 'give roles in the order that the template wants, or use another template',
          cause,
        },
      );
    }
  }

  #render(messages: readonly unknown[], generationPrompt: boolean): string {
    const { bosToken, eosToken, padToken, unkToken } = this.#tokens;
    const tokens = { bos_token: bosToken, eos_token: eosToken, pad_token: padToken, unk_token: unkToken };
    const known = Object.fromEntries(Object.entries(tokens).filter(([, token]) => token !== undefined));
    return this.#jinja.render({ messages, add_generation_prompt: generationPrompt, ...known });
  }

  #content(message: Message): unknown {
    const { parts: takesParts, strings } = this.#takes;
    const parts = contentParts(message);
    const [first] = parts;
    if (takesParts && strings && parts.length === 1 && first?.type === 'text') return first.text;
    if (takesParts) return parts.map((part) => (part.type === 'text' ? part : { type: 'image' }));
    return parts.map((part) => (part.type === 'text' ? part.text : this.#tokens.imageToken)).join('');
  }

  /** Templates of text-only models take a string as content, those of multimodal ones a list of parts, or both. */
  #tryOut(): { parts: boolean; strings: boolean } {
    const text = ' probe\n';
    const render = (content: unknown): string | undefined => {
      try {
        return this.#render(
          ['user', 'assistant'].map((role) => ({ role, content })),
          false,
        );
      } catch {
        return undefined;
      }
    };
    const fromParts = render([{ type: 'text', text }]);
    const parts = fromParts?.includes('probe') === true && !/["']?type["']?:|\[object/.test(fromParts);
    return { parts, strings: !parts || render(text) === fromParts };
  }
}

/** Makes the marks of generated text, which the engine drops, print themselves; white space around them follows Jinja's trim_blocks. */
function showMarks(source: string): string {
  return source.replace(/{%(-?)\s*(end)?generation\s*(-?)%}(\n?)/g, (_, left: string, end: string | undefined, right: string) =>
    end ? `{%${left} endif %}{{ '${close}' ${right}}}` : `{%${left} if true %}{{ '${open}' ${right}}}`,
  );
}

function takeMarks(marked: string): Rendered {
  const generated: [number, number][] = [];
  let text = '';
  for (const piece of marked.split(/([\uF8F0\uF8F1])/)) {
    if (piece === open) generated.push([text.length, text.length]);
    else if (piece !== close) text += piece;
    else {
      const last = generated.at(-1);
      if (last) last[1] = text.length;
    }
  }
  return { text, generated };
}
