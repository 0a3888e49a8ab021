#!/usr/bin/env python3
"""A classifier of BERT-base's size with random weights (109 million), for fine_tune.py where no pretrained one is at hand.

    python3 bench/compare/make_bert_base.py TOKENIZER_FOLDER OUT

The tokenizer (bert-base-uncased's vocabulary) is copied from TOKENIZER_FOLDER. Needs torch and transformers.
"""
import sys

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(num_labels=2)).save_pretrained(sys.argv[2])
    AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])


if __name__ == "__main__":
    main()
