"""Preparing data: tokenised and packed against `datasets`, its memory, and learned pieces against SentencePiece.

Each measurement is a fresh process with nothing prepared; the files to read are in the page cache.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import PALIMPSEST
from corpus import CACHE, write_jsonl, write_lines

PEER = Path(__file__).with_name("data_peer.py")
# (name, tokenizer, the ids that begin and end a document)
TOKENIZERS = [
    ("LLaMA-2", CACHE / "data/tokenizers/llama-2-7b", 1, 2),
    ("SmolLM2, byte-level", CACHE / "data/models/smollm2-135m", 1, 2),
]
JOB = """
apiVersion: palimpsest.dev/v1alpha1
kind: TrainingJob
metadata: {{name: prepare}}
spec:
  model:
    architecture: {{model_type: llama, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 1,
      num_attention_heads: 2, max_position_embeddings: 4096}}
  tokenizer: {{uri: "file://{tokenizer}"}}
  data:
    sequenceLength: 4096
    datasets: [{{name: corpus, uri: "file://{corpus}", fields: {{text: text}}, holdOut: {{fraction: "0.01"}}}}]
  stages:
    - name: all
      buckets: 1
      mixture: [{{dataset: corpus}}]
      budget: {{epochs: 1}}
      batch: {{sequences: 8}}
      optimizer: {{learningRate: "1e-4"}}
      schedule: {{kind: Constant}}
  output: {{uri: "file://{folder}/run/model"}}
"""


def timed(command):
    """Wall and CPU seconds and peak memory of a process."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=errors)
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode != 0:
            sys.exit(f"{command[0]} failed: {errors.read().decode()[-2000:]}")
    measured = {"seconds": seconds, "cpuSeconds": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}
    return measured, output.decode()


def prepare(folder, corpus, tokenizer):
    """`palimpsest data prepare` from nothing. Tokens are those of all documents, BOS and EOS included."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    job = folder / "job.yaml"
    job.write_text(JOB.format(tokenizer=tokenizer, corpus=corpus, folder=folder))
    measured, _ = timed([PALIMPSEST, "data", "prepare", job, "--threads", os.cpu_count()])
    plan = next((folder / "run").rglob("plan.json"))
    (dataset,) = json.loads(plan.read_text())["certificate"]["datasets"]
    return {**measured, "tokens": dataset["read"]["tokens"]}


def prepare_with_datasets(folder, corpus, tokenizer, begin, end):
    """The peer's own clock, without its imports."""
    cache = folder / "datasets"
    shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, PEER, "prepare", tokenizer / "tokenizer.json", corpus, cache, begin, end]
    return json.loads(timed(command)[1].splitlines()[-1])


def learn(folder, corpus, size):
    output = folder / "learned"
    shutil.rmtree(output, ignore_errors=True)
    measured, _ = timed([PALIMPSEST, "tokenizer", "learn", "--size", size, "--text-field", "text", "--output", output, corpus])
    return {**measured, "model": output / "tokenizer.model"}


def learn_with_sentencepiece(folder, lines, size):
    model = folder / "theirs"
    output = timed([sys.executable, PEER, "learn", lines, model, size])[1]
    return {**json.loads(output.splitlines()[-1]), "model": model.with_suffix(".model")}


def in_turns(ours, theirs, rounds):
    """Ours and theirs alternately; who is first changes from round to round."""
    pairs = []
    for number in range(rounds):
        order = [ours, theirs] if number % 2 == 0 else [theirs, ours]
        done = {side: side() for side in order}
        pairs.append((done[ours], done[theirs]))
    ratios = sorted(their["seconds"] / our["seconds"] for our, their in pairs)
    result = {"speed": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1]}
    result["cpuSpeed"] = statistics.median(their["cpuSeconds"] / our["cpuSeconds"] for our, their in pairs)
    for name, index in (("ours", 0), ("theirs", 1)):
        result[name] = {**pairs[-1][index], "seconds": statistics.median(pair[index]["seconds"] for pair in pairs)}
    return result


def pieces_in_common(ours, theirs):
    """The share of their pieces that ours has: how far the two have learned the same."""
    from sentencepiece import SentencePieceProcessor

    vocabularies = []
    for path in (ours, theirs):
        model = SentencePieceProcessor(model_file=str(path))
        vocabularies.append({model.id_to_piece(number) for number in range(model.vocab_size())})
    return len(vocabularies[0] & vocabularies[1]) / len(vocabularies[1])


def tokenising(folder, megabytes=100, rounds=3):
    corpus = folder / "corpus.jsonl"
    size = write_jsonl(corpus, megabytes * 1_000_000)
    for name, tokenizer, begin, end in TOKENIZERS:
        result = in_turns(
            lambda: prepare(folder, corpus, tokenizer),
            lambda: prepare_with_datasets(folder, corpus, tokenizer, begin, end), rounds,
        )
        if result["ours"]["tokens"] != result["theirs"]["tokens"]:
            sys.exit(f"{name}: {result['ours']['tokens']} tokens, and {result['theirs']['tokens']} by the peer")
        for side in ("ours", "theirs"):
            result[side]["megabytesPerSecond"] = size["fileBytes"] / 1e6 / result[side]["seconds"]
        yield {"name": f"{megabytes} MB, {name}", "target": 2.0, **size, **result}


def memory(folder, megabytes=1000):
    corpus = folder / "corpus.jsonl"
    size = write_jsonl(corpus, megabytes * 1_000_000)
    ours = prepare(folder, corpus, TOKENIZERS[0][1])
    ours["megabytesPerSecond"] = size["fileBytes"] / 1e6 / ours["seconds"]
    yield {"name": f"{megabytes} MB, {TOKENIZERS[0][0]}", "mostMemory": 400e6, **size, "ours": ours}


def learning(folder, megabytes=25, size=8192, rounds=3):
    corpus, lines = folder / "corpus.jsonl", folder / "corpus.txt"
    bytes_of = write_jsonl(corpus, megabytes * 1_000_000)
    write_lines(lines, megabytes * 1_000_000)
    result = in_turns(lambda: learn(folder, corpus, size), lambda: learn_with_sentencepiece(folder, lines, size), rounds)
    common = pieces_in_common(result["ours"].pop("model"), result["theirs"].pop("model"))
    yield {"name": f"{megabytes} MB, {size} pieces", "target": 1.0, **bytes_of, "piecesInCommon": common, **result}


SUITES = {"prepare": tokenising, "memory": memory, "learn": learning}


def print_row(row):
    ours, theirs = row["ours"], row.get("theirs")
    if theirs is None:
        print(f"{row['name']:30} {'':33} {'':7} {ours['seconds']:10.2f} {'':10} "
              f"{ours['peak'] / 1e6:8.0f} {'':8} {rate(ours)} {'':8} (at most {row['mostMemory'] / 1e6:.0f} MB)", flush=True)
        return
    print(f"{row['name']:30} {row['speed']:6.2f} {row['lowest']:5.2f}-{row['highest']:<5.2f} {row['cpuSpeed']:6.2f} "
          f"{row['target']:7.2f} {ours['seconds']:10.2f} {theirs['seconds']:10.2f} "
          f"{ours['peak'] / 1e6:8.0f} {theirs['peak'] / 1e6:8.0f} {rate(ours)} {rate(theirs)}", flush=True)


def rate(side):
    return f"{side['megabytesPerSecond']:8.1f}" if "megabytesPerSecond" in side else f"{'':8}"


def suite(name):
    """Measures a suite and prints its rows."""
    print(f"{'':30} {'speed':>6} {'spread':11} {'of CPU':>6} {'target':>7} {'ours s':>10} {'theirs s':>10} "
          f"{'peak MB':>8} {'theirs':>8} {'MB/s':>8} {'theirs':>8}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in SUITES[name](Path(folder)):
            print_row(row)
            rows.append(row)
    return rows
