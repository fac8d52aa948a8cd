"""What the Python sides of benchmarks make models of, with random weights."""

from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

VOCABULARY, IMAGE = 49152, 49151


def smollm2(**more):
    """SmolLM2-135M's shape."""
    return LlamaConfig(
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        initializer_range=0.041666666666666664,
        rope_theta=100000.0,
        rms_norm_eps=1e-5,
        **more,
    )


def siglip_base(side, patch):
    return SiglipVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=side, patch_size=patch, vision_use_head=False
    )


def save_llava(folder, vision, text, image=IMAGE):
    """A LLaVA with random weights."""
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=text.tie_word_embeddings,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
