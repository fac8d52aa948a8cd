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


def chair(doc, answer):
    utils = load("coco_cap_chair.utils")
    return float(utils.coco_cap_chair_aggregate_results_chair_s([{"answer": doc["gt_object"], "pred": doc["pred"]}]) == 0)


oracles["chair"] = chair


def mean_of(scores):
    return {"mean": sum(scores) / len(scores) * 100}


def pope_all(cases, _):
    utils = load("pope.utils")
    rows = [utils.pope_process_results(doc, [answer])["pope_accuracy"] for doc, answer in cases]
    return {
        "accuracy": utils.pope_aggregate_accuracy(rows),
        "precision": utils.pope_aggregate_precision(rows),
        "recall": utils.pope_aggregate_recall(rows),
        "F1": utils.pope_aggregate_f1_score(rows),
    }


def mme_all(cases, _):
    utils = load("mme.utils")
    rows = [utils.mme_process_results(doc, [answer]) for doc, answer in cases]
    of = lambda key: utils.mme_aggregate_results([row[key] for row in rows if key in row])  # noqa: E731
    return {"perception": of("mme_perception_score"), "cognition": of("mme_cognition_score")}


def mmstar_all(cases, _):
    utils = load("mmstar.utils")
    rows = [utils.mmstar_process_results(doc, [answer])["average"] for doc, answer in cases]
    return {"average": utils.mmstar_aggregate_results(rows) * 100}


def hallusion_all(cases, _):
    module = load("hallusion_bench.evaluate_hb")
    rows = [{**doc, "model_prediction": answer} for doc, answer in cases]
    return {metric: module.hb_aggregation_result_intern(rows, metric) * 100 for metric in ("aAcc", "fAcc", "qAcc")}


def refcoco_all(cases, _):
    utils = load("refcoco.utils_rec")
    rows = [utils.refcoco_bbox_rec_process_result(doc, [answer])["refcoco_IoU"] for doc, answer in cases]
    rows = [row for row in rows if row["bbox"][0] < row["bbox"][2] and row["bbox"][1] < row["bbox"][3]]
    names = {"ACC@0.3": "accuracy at 0.3", "ACC@0.5": "accuracy at 0.5", "ACC@0.7": "accuracy at 0.7", "Center_ACC": "centre within"}
    return {ours: utils.refcoco_bbox_rec_aggregation_result(rows, theirs) * 100 for theirs, ours in names.items()}


def chair_all(cases, _):
    utils = load("coco_cap_chair.utils")
    rows = [{"answer": doc["gt_object"], "pred": doc["pred"]} for doc, _ in cases]
    return {
        "CHAIR_i": utils.coco_cap_chair_aggregate_results_chair_i(rows),
        "CHAIR_s": utils.coco_cap_chair_aggregate_results_chair_s(rows),
        "recall": utils.coco_cap_chair_aggregate_results_recall(rows),
    }


def mmvet_all(cases, scores):
    rows = [{"score": score, "capabilities": doc["capabilities"]} for (doc, _), score in zip(cases, scores)]
    return {"total": load("mmvet.utils").mmvet_aggregate_results(rows)}


def llava_bench_all(_, scores):
    return {"all": load("llava-in-the-wild.utils").llava_aggregation([{"scores": pair} for pair in scores], "all")}


def ocrbench_all(_, scores):
    return {"final score": sum(scores)}


wholes = {
    "pope": pope_all,
    "mme": mme_all,
    "mmstar": mmstar_all,
    "hallusion-bench": hallusion_all,
    "refcoco": refcoco_all,
    "chair": chair_all,
    "mm-vet": mmvet_all,
    "llava-bench": llava_bench_all,
    "ocrbench": ocrbench_all,
}


def main():
    # lmms-eval strips what a model wrote before it scores it.
    wanted = json.load(sys.stdin)
    random.seed(0)
    sink = io.StringIO()
    from loguru import logger

    logger.remove()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        result = {}
        for task, cases in wanted.items():
            pairs = [(case["doc"], case["answer"].strip()) for case in cases]
            scores = [oracles[task](doc, answer) for doc, answer in pairs]
            result[task] = {"scores": scores, "wholes": wholes[task](pairs, scores) if task in wholes else mean_of(scores)}
    json.dump(result, sys.stdout)


main()
