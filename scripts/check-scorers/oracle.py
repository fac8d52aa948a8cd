"""Scores of lmms-eval 0.7.3 for the predictions of check-scorers.ts: JSON on standard input, JSON on standard output.

Needs `pip install --no-deps lmms-eval==0.7.3` and `pip install loguru pyyaml numpy pandas tqdm pillow requests sacrebleu datasets`; neither torch nor
transformers is loaded. The package's registry and the loader of its tasks are put aside, because they would load both.
"""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import random
import sys
import types

os.environ.setdefault("OPENAI_API_KEY", "none")


def stub(name, **names):
    module = types.ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module
    return module


root = importlib.util.find_spec("lmms_eval").submodule_search_locations[0]
stub("lmms_eval.tasks").__path__ = [os.path.join(root, "tasks")]
same = lambda *_, **__: lambda thing: thing  # noqa: E731
stub("lmms_eval.api.registry", register_metric=same, register_aggregation=same, register_filter=same, register_model=same)


class AnyModule(types.ModuleType):
    """Stands for what the scorers import and do not use."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *_, **__: None})


class Finder:
    def find_spec(self, name, path=None, target=None):
        wanted = ("lmms_eval.verifiers", "lmms_eval.llm_judge", "lmms_eval.filters", "lmms_eval.tasks._task_utils.file_utils", "spacy", "nltk", "pycocoevalcap", "pycocotools")
        return importlib.machinery.ModuleSpec(name, self) if name.startswith(wanted) else None

    def create_module(self, spec):
        return AnyModule(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())


def load(name):
    return importlib.import_module(f"lmms_eval.tasks.{name}")


def exact(answer, truth):
    from lmms_eval.api.metrics import exact_match_hf_evaluate

    return float(exact_match_hf_evaluate([answer], [truth], ignore_case=True, ignore_punctuation=True)["exact_match"])


class Unread(Exception):
    """Where the original would draw an answer."""


def never(*_):
    raise Unread


def vqa(module, function):
    return lambda doc, answer: getattr(load(module), function)(doc, [answer])["exact_match"]


def pope(doc, answer):
    return load("pope.utils").pope_process_results(doc, [answer])["pope_accuracy"]["score"]


def mme(doc, answer):
    return next(iter(load("mme.utils").mme_process_results(doc, [answer]).values()))["score"]


def mmbench(doc, answer):
    rows = [{**{c: "nan" for c in "ABCDE"}, **doc, "prediction": answer}]
    for row in rows:
        for c in "ABCDE":
            if row[c] == "nan":
                row[c] = None
    return float(load("mmbench.mmbench_evals").MMBench_Evaluator().eval_result(rows, eval_method="static")[0])


def mmmu(doc, answer):
    utils = load("mmmu.utils")
    load("_task_utils.mmmu_mcq_utils").random = types.SimpleNamespace(choice=never)
    doc = {**doc, "options": repr(doc["options"])}
    try:
        return float(utils.mmmu_aggregate_results([utils.mmmu_process_results(doc, [answer])["mmmu_acc"]]))
    except Unread:
        return 0.0


def ai2d(doc, answer):
    return exact(load("ai2d.utils").MultiChoiceRegexFilter().apply([[answer]], [doc])[0], doc["answer"])


def chartqa(doc, answer):
    return load("chartqa.utils").chartqa_process_results(doc, [answer])["relaxed_overall"]


def docvqa(doc, answer):
    from lmms_eval.api.metrics import anls

    return anls(doc["answers"], [answer])["anls"]


def seed(doc, answer):
    utils = load("seedbench.utils")
    return utils.seed_aggregation_result([utils.seed_process_result(doc, [answer])["seed_all"]])


def mmstar(doc, answer):
    return load("mmstar.utils").mmstar_process_results(doc, [answer])["average"]["score"]


def refcoco(doc, answer):
    utils = load("refcoco.utils_rec")
    result = utils.refcoco_bbox_rec_process_result(doc, [answer])["refcoco_IoU"]
    try:
        return float(utils.compute_accuracy(result["bbox"], result["pred"], 0.5))
    except ZeroDivisionError:
        return 0.0


def mmvet(doc, answer):
    # The loop around this asks a server; these are its own lines.
    try:
        score = float(answer.strip().split(" ")[0].strip())
    except ValueError:
        return 0.0
    return score if 0.0 <= score <= 1.0 else 0.0


def llava_bench(doc, answer):
    module = load("llava-in-the-wild.utils")
    module.VerifyResult = lambda **fields: types.SimpleNamespace(**fields)
    return module._parse_comparative_scores(answer).metadata["scores"]


def hallusion(doc, answer):
    return load("hallusion_bench.evaluate_hb").hb_aggregation_result_intern([{**doc, "model_prediction": answer}], "aAcc")


oracles = {
    "vqav2": vqa("vqav2.utils", "vqav2_process_results"),
    "vizwiz": vqa("vizwiz_vqa.utils", "vizwiz_vqa_process_results"),
    "textvqa": vqa("textvqa.utils", "textvqa_process_results"),
    "ok-vqa": vqa("ok_vqa.utils", "ok_vqa_process_results"),
    "gqa": lambda doc, answer: exact(answer, doc["answer"]),
    "scienceqa": lambda doc, answer: load("scienceqa.utils").sqa_process_results(doc, [answer])["exact_match"],
    "pope": pope,
    "mme": mme,
    "mmbench-en": mmbench,
    "mmmu": mmmu,
    "mmstar": mmstar,
    "ai2d": ai2d,
    "realworldqa": lambda doc, answer: load("realworldqa.utils").realworldqa_process_results(doc, [answer])["exact_match"],
    "seed-bench": seed,
    "chartqa": chartqa,
    "docvqa": docvqa,
    "ocrbench": lambda doc, answer: load("ocrbench.utils").ocrbench_process_results(doc, [answer])["ocrbench_accuracy"]["score"],
    "refcoco": refcoco,
    "mm-vet": mmvet,
    "llava-bench": llava_bench,
    "hallusion-bench": hallusion,
}


def main():
    # lmms-eval strips what a model wrote before it scores it.
    wanted = json.load(sys.stdin)
    random.seed(0)
    sink = io.StringIO()
    from loguru import logger

    logger.remove()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        scores = {task: [oracles[task](case["doc"], case["answer"].strip()) for case in cases] for task, cases in wanted.items()}
    json.dump(scores, sys.stdout)


main()
