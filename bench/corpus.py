"""A corpus of any size from the real one that `scripts/test-data.sh` unpacks: English and Chinese, prose, code and verse.

The first pass over it is the corpus as it is; every further one deals the paragraphs of each file out to its documents
anew, so that no document comes twice. What recurs are words, on which both sides keep caches that are far smaller than
the words of one pass.
"""

import json
import os
import random
from pathlib import Path

CACHE = Path(os.environ.get("PALIMPSEST_CACHE", Path.home() / ".cache/palimpsest"))
REAL = CACHE / "data/corpus"


def real_texts():
    """The documents of each file: {"en/literature": [text, ...], ...}."""
    files = sorted(REAL.rglob("*.jsonl"))
    if not files:
        raise SystemExit(f"{REAL} holds no corpus; run scripts/test-data.sh")
    texts = {}
    for file in files:
        records = map(json.loads, file.open(encoding="utf-8"))
        texts[str(file.relative_to(REAL).with_suffix(""))] = [record["source"] + record["target"] for record in records]
    return texts


def dealt(texts, generator):
    """The same paragraphs in other documents: as many of each, as long as before but for the paragraphs' own lengths."""
    paragraphs = [text.split("\n") for text in texts]
    all_of_them = [paragraph for document in paragraphs for paragraph in document]
    generator.shuffle(all_of_them)
    start = 0
    for document in paragraphs:
        yield "\n".join(all_of_them[start:start + len(document)])
        start += len(document)


def passes(least_bytes):
    """Lists of texts, until they are `least_bytes` of UTF-8 together."""
    files = real_texts()
    generator = random.Random(20)
    written = 0
    first = True
    while True:
        for texts in files.values():
            texts = [text for text in (texts if first else dealt(texts, generator)) if text.strip()]
            yield texts
            written += sum(len(text.encode()) for text in texts)
            if written >= least_bytes:
                return
        first = False


def write_jsonl(path, least_bytes):
    """Writes {"text": ...} lines; gives the bytes of the file and of the texts in it."""
    text_bytes = 0
    with open(path, "w", encoding="utf-8") as file:
        for texts in passes(least_bytes):
            for text in texts:
                text_bytes += len(text.encode())
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    return {"fileBytes": Path(path).stat().st_size, "textBytes": text_bytes}


def write_lines(path, least_bytes):
    """Writes the same texts as lines, which is what SentencePiece's trainer reads."""
    with open(path, "w", encoding="utf-8") as file:
        for texts in passes(least_bytes):
            file.writelines(text + "\n" for text in texts)
