"""Ids of texts by the libraries that others use: sentencepiece, transformers, tiktoken.

Usage: tokenizers_reference.py JOBS.json, where JOBS.json holds {"texts": FILE, "jobs": [{"kind", "path", "ids"}...]}.
FILE has one JSON string a line. "kind" is sentencepiece, transformers (a folder for AutoTokenizer, special tokens in
text split), tiktoken-qwen or tiktoken-cl100k. "ids" is the file to write: for each text the number of ids and the ids, as
little-endian 32-bit numbers. Other kinds: sentencepiece-ends writes the ends of the ids' texts, in bytes, instead;
sentencepiece-decode reads a file of ids, "input", and writes a text for each as a line of JSON; sentencepiece-train
writes a model to "path" with the trainer's "options", and makes every "unused"-th of its pieces unused.
"""

import json
import struct
import sys
import unicodedata
from multiprocessing import get_context

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_ids(path):
    numbers = struct.iter_unpack("<I", open(path, "rb").read())
    for (count,) in numbers:
        yield [next(numbers)[0] for _ in range(count)]


def write_ids(path, lists):
    with open(path, "wb") as file:
        for ids in lists:
            file.write(struct.pack(f"<{len(ids) + 1}I", len(ids), *ids))


def make_unused(path, every):
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(open(path, "rb").read())
    normal = [piece for piece in model.pieces if piece.type == model.SentencePiece.NORMAL]
    for piece in normal[::every]:
        piece.type = model.SentencePiece.UNUSED
    open(path, "wb").write(model.SerializeToString())


def run(arguments):
    job, texts_path = arguments
    texts = [json.loads(line) for line in open(texts_path, encoding="utf-8")]
    kind = job["kind"]
    if kind.startswith("sentencepiece"):
        import sentencepiece

    if kind == "sentencepiece-train":
        lines = (line for text in texts for line in text.split("\n") if line)
        with open(job["path"], "wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines, model_writer=file, minloglevel=2, **job["options"]
            )
        if job.get("unused"):
            make_unused(job["path"], job["unused"])
    elif kind == "sentencepiece-ends":
        processor = sentencepiece.SentencePieceProcessor(model_file=job["path"])
        encoded = (processor.encode(text, return_type="proto") for text in texts)
        write_ids(job["ids"], ([piece.end for piece in text.pieces] for text in encoded))
    elif kind == "sentencepiece":
        write_ids(job["ids"], sentencepiece.SentencePieceProcessor(model_file=job["path"]).encode(texts))
    elif kind == "sentencepiece-decode":
        processor = sentencepiece.SentencePieceProcessor(model_file=job["path"])
        with open(job["ids"], "w", encoding="utf-8") as file:
            for ids in read_ids(job["input"]):
                file.write(json.dumps(processor.decode(ids)) + "\n")
    elif kind == "transformers":
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(job["path"])
        options = {"add_special_tokens": job.get("special", False), "split_special_tokens": True}
        encoded = tokenizer(texts, return_attention_mask=False, verbose=False, **options)["input_ids"]
        write_ids(job["ids"], encoded)
    elif kind.startswith("tiktoken"):
        import tiktoken
        from tiktoken.load import load_tiktoken_bpe

        qwen = kind == "tiktoken-qwen"
        pattern = QWEN if qwen else QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
        encoding = tiktoken.Encoding(
            "test", pat_str=pattern, mergeable_ranks=load_tiktoken_bpe(job["path"]), special_tokens={}
        )
        if qwen:
            texts = [unicodedata.normalize("NFC", text) for text in texts]
        write_ids(job["ids"], (encoding.encode_ordinary(text) for text in texts))
    else:
        raise SystemExit(f"unknown kind {kind}")


if __name__ == "__main__":
    work = json.load(open(sys.argv[1]))
    with get_context("fork").Pool(2) as pool:
        pool.map(run, [(job, job.get("texts", work["texts"])) for job in work["jobs"]], chunksize=1)
