import argparse
import os
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from evaluation import ANSWER, SUFFIX, numbers, prepare
from measure import main, show

# lmms-eval's own task, but for where its data is and how long its answers are: a random model would write to the limit.
TASK = """dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {questions}
task: {shape}_shape
test_split: test
output_type: generate_until
doc_to_visual: !function utils.{shape}_doc_to_visual
doc_to_text: !function utils.{shape}_doc_to_text
doc_to_target: answer
generation_kwargs:
  max_new_tokens: {answer}
  temperature: 0
  top_p: 1.0
  num_beams: 1
  do_sample: false
process_results: !function utils.{shape}_process_results
metric_list:
  - metric: {metric}
    aggregation: !function utils.{aggregate}
    higher_is_better: true
lmms_eval_specific_kwargs:
  default:
    pre_prompt: ""
    post_prompt: "{suffix}"
"""
METRICS = {"pope": ("pope_accuracy", "pope_aggregate_accuracy"), "mme": ("mme_perception_score", "mme_aggregate_results")}


def write_task(folder, shape, questions):
    folder.mkdir(exist_ok=True)
    metric, aggregate = METRICS[shape]
    suffix = SUFFIX.replace("\n", "\\n")
    (folder / "task.yaml").write_text(
        TASK.format(questions=questions, shape=shape, answer=ANSWER, metric=metric, aggregate=aggregate, suffix=suffix)
    )
    (folder / "utils.py").write_text(f"from lmms_eval.tasks.{shape}.utils import *\n")


def run(folder, shape, tokens):
    os.environ.update(HF_DATASETS_OFFLINE="1", HF_DATASETS_CACHE=str(folder / "datasets"), TQDM_DISABLE="1")
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models.simple.llava_hf import LlavaHf
    from lmms_eval.tasks import TaskManager

    home = folder / f"{shape}-{tokens}" / "task"
    write_task(home, shape, folder / f"{shape}-{tokens}" / "test.parquet")
    # It takes one question at a time: any other batch size fails an assertion.
    model = LlavaHf(pretrained=str(folder / tokens), device="cpu", device_map="cpu", dtype="float32", attn_implementation="sdpa", batch_size=1)
    generate = model.generate_until
    seconds = 0

    def timed(requests):
        nonlocal seconds
        start = time.perf_counter()
        answers = generate(requests)
        seconds = time.perf_counter() - start
        return answers

    model.generate_until = timed
    manager = TaskManager("ERROR", include_path=str(home))

    model.model.generate(input_ids=torch.tensor([[5, 6, 7]]), max_new_tokens=ANSWER)
    found = simple_evaluate(
        model=model,
        tasks=[f"{shape}_shape"],
        batch_size=1,
        task_manager=manager,
        verbosity="ERROR",
        cli_args=argparse.Namespace(process_with_media=False),
    )
    samples = sorted(found["samples"][f"{shape}_shape"], key=lambda sample: sample["doc_id"])
    # Its time is that of its answers alone: reading questions, scoring and writing come on top.
    show({"questions": len(samples) / seconds}, numbers(sample["resps"][0][0] for sample in samples))


main(prepare, run)
