import type { Json } from './part.ts';

/** How a family of transformers other than LLaVA writes what this package writes for its models. */
interface Family {
  /** Its config.json from the one of this package. */
  json(ours: Json): Json;
  /** Its key for a weight. */
  key(ours: string): string;
}

/** Fields that every family has in common; sections that hold settings of this package's alone are left out. */
function common({ dtype, image_token_index, tie_word_embeddings, text_config }: Json): Json {
  return { dtype, image_token_id: image_token_index, tie_word_embeddings, text_config };
}

/** Idefics3's layout, which SmolVLM shares under names of its own. */
function idefics3(name: 'Idefics3' | 'SmolVLM'): Family {
  const model_type = name.toLowerCase();
  return {
    json: (ours) => {
      const { model_type: _, vision_use_head: __, post_norm: ___, ...vision } = ours['vision_config'] as Json;
      return {
        architectures: [`${name}ForConditionalGeneration`],
        model_type,
        ...common(ours),
        scale_factor: (ours['connector_config'] as Json)['factor'],
        vision_config: { model_type: `${model_type}_vision`, ...vision },
      };
    },
    key: (ours) =>
      ours
        .replace(/^model\.vision_tower\.vision_model\./, 'model.vision_model.')
        .replace(/^model\.multi_modal_projector\.linear_1\./, 'model.connector.modality_projection.proj.')
        .replace(/^model\.language_model\./, 'model.text_model.'),
  };
}

const internVl: Family = {
  json: (ours) => {
    const connector = ours['connector_config'] as Json;
    return {
      architectures: ['InternVLForConditionalGeneration'],
      model_type: 'internvl',
      ...common(ours),
      image_seq_length: ours['image_seq_length'],
      downsample_ratio: 1 / Number(connector['factor']),
      projector_hidden_act: connector['hidden_act'],
      vision_feature_layer: ours['vision_feature_layer'],
      vision_feature_select_strategy: ours['vision_feature_select_strategy'],
      vision_config: ours['vision_config'],
    };
  },
  key: (ours) => ours,
};

/** Families that a model goes back to when it is saved, by `model_type`. */
export const families = { idefics3: idefics3('Idefics3'), smolvlm: idefics3('SmolVLM'), internvl: internVl };

/** The name of a family. */
export type FamilyName = keyof typeof families;

/** The names of all families. */
export const familyNames = Object.keys(families) as [FamilyName, ...FamilyName[]];
