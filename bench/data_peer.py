"""The peer in preparing data: `datasets` with a fast tokenizer, and SentencePiece's trainer. The last line of its output
is a JSON object.

    python data_peer.py prepare TOKENIZER.json CORPUS.jsonl CACHE BOS EOS
    python data_peer.py learn LINES.txt MODEL SIZE
"""

import json
import os
import resource
import sys
import time

SEQUENCE_LENGTH = 4096


def prepare(tokenizer, corpus, cache, begin, end):
    # Processes are what shares the cores here; threads of the tokenizer besides only contend with them.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import datasets
    import pyarrow.compute
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    # As with ours, text never gives special tokens.
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer, split_special_tokens=True)
    begin, end = int(begin), int(end)
    processes = os.cpu_count()

    def tokenize(batch):
        encoded = tokenizer(batch["text"], add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
        return {"input_ids": [[begin, *ids, end] for ids in encoded["input_ids"]]}

    def group_texts(batch):
        """As transformers' `run_clm.py` packs: end to end, what is left over of a batch dropped."""
        flat = [token for ids in batch["input_ids"] for token in ids]
        whole = len(flat) // SEQUENCE_LENGTH * SEQUENCE_LENGTH
        sequences = [flat[start:start + SEQUENCE_LENGTH] for start in range(0, whole, SEQUENCE_LENGTH)]
        return {"input_ids": sequences, "labels": [ids.copy() for ids in sequences]}

    start, cpu = time.perf_counter(), cpu_seconds()
    dataset = datasets.load_dataset("json", data_files=corpus, split="train", cache_dir=cache)
    dataset = dataset.map(tokenize, batched=True, num_proc=processes, remove_columns=dataset.column_names)
    packed = dataset.map(group_texts, batched=True, num_proc=processes)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    lengths = pyarrow.compute.list_value_length(dataset.data["input_ids"])
    tokens = pyarrow.compute.sum(lengths).as_py()
    return {"seconds": seconds, "cpuSeconds": cpu, "tokens": tokens, "sequences": len(packed)}


def learn(lines, model, size):
    from sentencepiece import SentencePieceTrainer

    start, cpu = time.perf_counter(), cpu_seconds()
    SentencePieceTrainer.train(
        input=lines, model_prefix=model, model_type="bpe", vocab_size=int(size), character_coverage=0.9995,
        byte_fallback=True, split_digits=True, allow_whitespace_only_pieces=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, max_sentence_length=1 << 20, num_threads=os.cpu_count(), minloglevel=2,
    )
    return {"seconds": time.perf_counter() - start, "cpuSeconds": cpu_seconds() - cpu}


def cpu_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main():
    kind, *arguments = sys.argv[1:]
    measured = {"prepare": prepare, "learn": learn}[kind](*arguments)
    # Of the largest process alone: what it shares with the others would count several times.
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({**measured, "peak": max(peaks) * 1024}))


if __name__ == "__main__":
    main()
