#!/usr/bin/env python3
"""Makes the excerpts of this folder from the full corpora: `excerpt.py CORPORA`, where CORPORA holds en/, zh/ and qa/.

Every k-th record is taken, from the first on, byte for byte. Only sources whose licence lets a copy be kept here are
listed; NOTICE says what each is.
"""

import pathlib
import sys

EVERY = {
    "en/literature": 4,
    "en/rust_book": 2,
    "en/recipes": 1,
    "zh/rust_book": 2,
    "zh/nlp_course": 2,
    "zh/recipes": 2,
    "zh/python_docs": 8,
    "qa/gsm8k_en": 5,
    "qa/kdconv_zh": 4,
}


def main():
    corpora = pathlib.Path(sys.argv[1])
    here = pathlib.Path(__file__).parent
    total = 0
    for name, every in EVERY.items():
        lines = (corpora / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
        taken = lines[::every]
        excerpt = here / f"{name}.jsonl"
        excerpt.parent.mkdir(exist_ok=True)
        excerpt.write_bytes(b"".join(taken))
        size = excerpt.stat().st_size
        total += size
        print(f"{name:16} {len(taken):5} of {len(lines):5} records, {size:8,} bytes")
    print(f"{'total':16} {total:>34,} bytes")


if __name__ == "__main__":
    main()
