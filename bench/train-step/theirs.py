import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from measure import main, show
from models import IMAGE, save_llava, siglip_base, smollm2
from training import autocast, captions, open_llava, open_rows, padded, pixel_values, save_rows, stepping
from transformers import Trainer, TrainerCallback, TrainingArguments

F = torch.nn.functional
# Side and patch of the tower by the image tokens that they give.
TOWERS = {196: (224, 16), 729: (378, 14)}
# Text tokens of rows with images, and of one without: captions of 30 tokens on average, and tenths of conversations in the manner of LLaVA-1.5's 665,298,
# whose texts scripts/scaling/data.ts assumes to be spread log-normally. Of those 40,688 have no image, about 1200 tokens on average: here one of six rows, but
# of half the length, so that they have about their share of the tokens.
LENGTHS = {"align": ([17, 25, 32, 46], []), "instruct": ([79, 135, 195, 282, 481], [600])}
BATCH = {"align": 4, "instruct": 3}
LEARNING_RATE = 1e-4


def conversation(text, image_tokens):
    """Turns of a question and an answer, random and about as long as each other; the answers are supervised."""
    image, ids = torch.full((image_tokens,), IMAGE), torch.randint(3, IMAGE, (text,))
    labels, at = torch.full_like(ids, -100), 0
    while at < text:
        asked, answered = random.randint(8, 24), random.choice([2, 4, 8, 30, 60])
        labels[at + asked : at + asked + answered] = ids[at + asked : at + asked + answered]
        at += asked + answered
    return torch.cat([image, ids]), torch.cat([torch.full_like(image, -100), labels])


def modality_batches(rows, size):
    """Factory's sampler for one process: batches of rows with images and of rows without, shuffled, and a last one of what is left of both."""
    pictured = [row for row in rows if (row[0] == IMAGE).any()]
    plain = [row for row in rows if not (row[0] == IMAGE).any()]
    whole, left = [], []
    for kind in (pictured, plain):
        random.shuffle(kind)
        chunks = [kind[i : i + size] for i in range(0, len(kind), size)]
        if chunks and len(chunks[-1]) < size:
            left += chunks.pop()
        whole += [sorted(chunk, key=lambda row: -len(row[0])) for chunk in chunks]
    random.shuffle(whole)
    return [*whole, *([left] if left else [])]


def prepare(folder):
    random.seed(1)
    for tokens, (side, patch) in TOWERS.items():
        save_llava(folder / str(tokens), siglip_base(side, patch), smollm2())
        for stage, (pictured, plain) in LENGTHS.items():
            rows = captions(pictured, tokens) if stage == "align" else [conversation(text, tokens) for text in pictured]
            rows += [conversation(text, 0) for text in plain]
            # The first step warms up.
            batches = [captions([20], tokens), *modality_batches(rows, BATCH[stage])]
            save_rows(folder / f"{stage}-{tokens}.safetensors", sum(batches, []), side, batches=[len(batch) for batch in batches])


class FusedLoss(torch.autograd.Function):
    """Cross-entropy of rows through the head in chunks whose logits are gone before the next, gradients made in the forward pass, as Liger does."""

    CHUNK = 256

    @staticmethod
    def forward(context, hidden, weight, targets):
        total, for_hidden = hidden.new_zeros((), dtype=torch.float32), torch.empty_like(hidden)
        for_weight = torch.zeros_like(weight, dtype=torch.float32) if weight.requires_grad else None
        cast = weight.to(hidden.dtype)
        for at in range(0, len(hidden), FusedLoss.CHUNK):
            rows, wanted = hidden[at : at + FusedLoss.CHUNK], targets[at : at + FusedLoss.CHUNK, None]
            logits = (rows @ cast.T).float()
            scores = logits.log_softmax(-1)
            total -= scores.gather(1, wanted).sum()
            gradient = scores.exp_().scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=torch.float32)).to(hidden.dtype)
            for_hidden[at : at + FusedLoss.CHUNK] = gradient @ cast
            if for_weight is not None:
                for_weight += gradient.T @ rows
        context.save_for_backward(for_hidden, for_weight)
        return total

    @staticmethod
    def backward(context, scale):
        for_hidden, for_weight = context.saved_tensors
        return for_hidden * scale.to(for_hidden.dtype), None if for_weight is None else for_weight * scale, None


class InOrder(Trainer):
    """Trainer on batches as they were saved, with the losses it sees and a clock behind the first step."""

    def __init__(self, model, rows, sizes, **settings):
        common = {"output_dir": tempfile.gettempdir(), "use_cpu": True, "learning_rate": LEARNING_RATE, "weight_decay": 0.0, "max_grad_norm": 1.0}
        quiet = {"report_to": [], "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "remove_unused_columns": False}
        arguments = TrainingArguments(**common, **quiet, lr_scheduler_type="constant", num_train_epochs=1, **settings)
        self.clock, self.losses = Clock(), []
        self.batches = [[*range(sum(sizes[:i]), sum(sizes[: i + 1]))] for i in range(len(sizes))]
        super().__init__(model=model, args=arguments, train_dataset=rows, callbacks=[self.clock])

    def get_train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=padded)

    def compute_loss(self, *inputs, **more):
        loss = super().compute_loss(*inputs, **more)
        self.losses.append(loss.item())
        return loss

    def log(self, *_, **__):
        pass


def with_fused_loss(model):
    """The model with another forward pass, as Liger changes models."""

    def forward(labels, num_items_in_batch=None, **inputs):
        hidden = model.model(**inputs, use_cache=False).last_hidden_state
        targets = F.pad(labels, (0, 1), value=-100)[:, 1:]
        kept = targets != -100
        rows = hidden[kept].bfloat16() if torch.is_autocast_enabled("cpu") else hidden[kept]
        return {"loss": FusedLoss.apply(rows, model.lm_head.weight, targets[kept]) / kept.sum()}

    model.forward = forward
    return model


class Clock(TrainerCallback):
    """Starts behind the first step."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, *_, **__):
        self.ends.append((time.perf_counter(), time.process_time()))

    @property
    def taken(self):
        return [last - first for first, last in zip(self.ends[0], self.ends[-1])]


def with_trainer(model, rows, sizes, precision, **settings):
    trainer = InOrder(model, rows, sizes, bf16=precision == "bfloat16", **settings)
    trainer.train()
    return trainer.clock.taken, trainer.losses


def packed(rows):
    """A batch in nanoVLM's manner: one behind the other without padding; positions restart, by which transformers keeps their attention apart."""
    labels = [row["labels"].clone() for row in rows]
    for own in labels:
        own[0] = -100
    return {
        "input_ids": torch.cat([row["ids"] for row in rows])[None],
        "position_ids": torch.cat([torch.arange(len(row["ids"])) for row in rows])[None],
        "labels": torch.cat(labels)[None],
        "pixel_values": pixel_values(rows),
    }


def with_loop(model, trained, rows, sizes, precision, collate, compiles=False):
    def loss(batch):
        with autocast(precision):
            return model(**collate(batch), use_cache=False).loss

    batches = [rows[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    if compiles:
        # One graph for all layers of a kind, as accelerate's regional compilation has it: all of them in one take minutes to compile.
        for layer in [*model.model.language_model.layers, *model.model.vision_tower.encoder.layers]:
            layer.compile(dynamic=True)
        # Compiles for every shape; no step is taken.
        for batch in batches:
            loss(batch).backward()
        model.zero_grad(set_to_none=True)
    step, losses = stepping(trained, loss, LEARNING_RATE)
    clock = Clock()
    for batch in batches:
        step(batch)
        clock.on_step_end()
    return clock.taken, losses


def run(folder, stage, tokens, precision, peer):
    rows, sizes = open_rows(folder / f"{stage}-{tokens}.safetensors")
    model, trained = open_llava(folder / tokens, stage)
    trains = {
        # TinyLLaVA Factory's settings, but for DeepSpeed and flash-attention, which need GPUs.
        "factory": lambda: with_trainer(model, rows, sizes, precision, gradient_checkpointing=True, optim="adamw_torch"),
        "trainer": lambda: with_trainer(model, rows, sizes, precision),
        "fused-loss": lambda: with_trainer(with_fused_loss(model), rows, sizes, precision),
        "compiled": lambda: with_loop(model, trained, rows, sizes, precision, padded, compiles=True),
        "packed": lambda: with_loop(model, trained, rows, sizes, precision, packed),
    }
    (seconds, cpu), losses = trains[peer]()
    samples = sum(sizes[1:])
    show({"throughput": samples / seconds, "CPU time": cpu / samples}, losses)


main(prepare, run)
