"""Writes what Hugging Face's Trainer itself gives on a tiny Llava, for the test that our steps are its steps.

Usage: python scripts/make-trainer-references.py test/reference    (torch 2.15, transformers 5.23, accelerate 1.15; after make-references.py)

`train-llava/trainer.safetensors` holds forty conversations (packed, with their pixels), the order in which fifty steps of four take them, and for each
step the loss, the gradients' norm and the learning rate, by four runs: `trainer`, Trainer as it is, in micro-batches of two; `parts`, the same with
the connector's own learning rate, in the way of LLaVA's trainer; `layers`, with learning rates that decay over the tower's layers, in the way of
timm; `adafactor`, with torch.optim.Adafactor. Trainer's clipping, accumulation, schedule and grouping are used, nothing is computed here.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration, Trainer, TrainerCallback, TrainingArguments

IMAGE, IMAGE_TOKENS, SIDE = 60, 9, 12
STEPS, ROWS, BATCH, MICRO = 50, 40, 4, 2
CONNECTOR, TOWER = "model.multi_modal_projector.", "model.vision_tower."
DECAY = 0.6


def conversations(generator):
    rows = []
    for row in range(ROWS):
        images = (1, 0, 2, 1)[row % 4]
        length = int(torch.randint(2, 12, (), generator=generator))
        start = int(torch.randint(0, IMAGE, (), generator=generator))
        answer = [(start + 7 * i) % IMAGE for i in range(length)]
        ids = torch.tensor([IMAGE] * (IMAGE_TOKENS * images) + [1, start] + answer)
        labels = torch.tensor([-100] * (len(ids) - length) + answer)
        rows.append({"input_ids": ids, "labels": labels, "pixel_values": torch.randn(images, 3, SIDE, SIDE, generator=generator)})
    return rows


def collate(rows):
    pad = lambda name, value: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=value)
    ids = pad("input_ids", 0)
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    batch = {"input_ids": ids, "labels": pad("labels", -100), "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}
    pixels = torch.cat([row["pixel_values"] for row in rows])
    return batch | ({"pixel_values": pixels} if len(pixels) else {})


class Order(torch.utils.data.Sampler):
    def __init__(self, order):
        self.order = order

    def __iter__(self):
        return iter(self.order)

    def __len__(self):
        return len(self.order)


def layer_of(name):
    """0 before the tower's layers, i + 1 in layer i; what stands behind them is with the last."""
    if ".layers." in name:
        return int(name.split(".layers.")[1].split(".")[0]) + 1
    return 0 if "embeddings" in name or "pre_layrnorm" in name else LAYERS


LAYERS = 2


class Fixed(Trainer):
    """The order of the rows is given, every micro-batch's loss is noted, and parameters may be grouped otherwise."""

    def __init__(self, *args, order, rate_of=None, optimizer_of=None, **kwargs):
        self.order, self.rate_of, self.optimizer_of, self.micro = order, rate_of, optimizer_of, []
        super().__init__(*args, **kwargs)

    def _get_train_sampler(self, *_):
        return Order(self.order)

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.micro.append(loss.item())
        return loss

    def create_optimizer(self, *_):
        if self.rate_of is None and self.optimizer_of is None:
            return super().create_optimizer()
        decayed = set(self.get_decay_parameter_names(self.model))
        groups = [
            dict(
                params=[parameter],
                lr=self.args.learning_rate * (self.rate_of(name) if self.rate_of else 1),
                weight_decay=self.args.weight_decay if name in decayed else 0.0,
            )
            for name, parameter in self.model.named_parameters()
        ]
        kind, options = self.get_optimizer_cls_and_kwargs(self.args)
        self.optimizer = self.optimizer_of(groups) if self.optimizer_of else kind(groups, **options)
        return self.optimizer


class Norms(TrainerCallback):
    def __init__(self):
        self.norms, self.rates = [], []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "grad_norm" in logs:
            self.norms.append(float(logs["grad_norm"]))
            self.rates.append(float(logs["learning_rate"]))


def run(root, rows, order, **kwargs):
    global LAYERS
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration.from_pretrained(root / "llava-clip", attn_implementation="sdpa")
    LAYERS = model.config.vision_config.num_hidden_layers
    noted = Norms()
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        use_cpu=True,
        max_steps=STEPS,
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=BATCH // MICRO,
        learning_rate=5e-3,
        weight_decay=0.1,
        adam_beta2=0.95,
        max_grad_norm=0.7,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    trainer = Fixed(model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[noted], order=order, **kwargs)
    trainer.train()
    per_step = BATCH // MICRO
    losses = [sum(trainer.micro[i : i + per_step]) for i in range(0, len(trainer.micro), per_step)]
    print(losses[:3], losses[-3:], noted.norms[:3], noted.rates[:4], len(noted.norms))
    return {"loss": torch.tensor(losses), "norm": torch.tensor(noted.norms), "learning_rate": torch.tensor(noted.rates, dtype=torch.float64)}


def main(root):
    generator = torch.Generator().manual_seed(51)
    rows = conversations(generator)
    order = torch.cat([torch.randperm(ROWS, generator=generator) for _ in range(STEPS * BATCH // ROWS)]).tolist()
    written = {
        "ids": torch.cat([row["input_ids"] for row in rows]).int(),
        "labels": torch.cat([row["labels"] for row in rows]).int(),
        "lengths": torch.tensor([len(row["input_ids"]) for row in rows]).int(),
        "images": torch.tensor([len(row["pixel_values"]) for row in rows]).int(),
        "pixels": torch.cat([row["pixel_values"] for row in rows]),
        "order": torch.tensor(order).int(),
    }
    runs = {
        "trainer": {},
        "parts": dict(rate_of=lambda name: 4.0 if name.startswith(CONNECTOR) else 1.0),
        "layers": dict(rate_of=lambda name: DECAY ** (LAYERS - layer_of(name)) if name.startswith(TOWER) else 1.0),
        "adafactor": dict(optimizer_of=lambda groups: torch.optim.Adafactor(groups, lr=5e-3)),
    }
    for name, options in runs.items():
        written |= {f"{name}.{key}": value for key, value in run(root, rows, order, **options).items()}
    save_file({name: tensor.contiguous() for name, tensor in written.items()}, root / "train-llava" / "trainer.safetensors")


main(Path(sys.argv[1]))
