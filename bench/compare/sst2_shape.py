#!/usr/bin/env python3
"""Counts what make_job.py imitates: how long SST-2's sentences are, and how often its tokens occur.

    python3 bench/compare/sst2_shape.py vocab.txt SST-2/train.tsv bench/compare/sst2_shape.json

Tokens are those of bert-base-uncased's vocabulary. The file holds numbers alone and nothing of the text: `lengths` says
how many sentences have so many tokens, [CLS] and [SEP] among them; `occurrences` how many different tokens occur so
often, without those two. Needs the package tokenizers.
"""
import collections
import csv
import json
import pathlib
import sys

import tokenizers


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    vocabulary, train, out = sys.argv[1:]
    tokenizer = tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=True)
    with open(train, encoding="utf-8", newline="") as file:
        sentences = [row["sentence"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    encoded = [encoding.ids[1:-1] for encoding in tokenizer.encode_batch(sentences)]
    lengths = collections.Counter(len(ids) + 2 for ids in encoded)
    occurrences = collections.Counter(collections.Counter(token for ids in encoded for token in ids).values())
    text = json.dumps({name: dict(sorted(counts.items())) for name, counts in
                       {"lengths": lengths, "occurrences": occurrences}.items()})
    pathlib.Path(out).write_text(text.replace('}, "', '},\n "') + "\n")


if __name__ == "__main__":
    main()
