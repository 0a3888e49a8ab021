#!/usr/bin/env python3
"""Folders that transformers and sinter read, and folders that sinter writes and transformers reads: the same ids.

Needs `pip install transformers` (the contract is 5.23.0) and the program tokenize_lines from sinter's build.

usage: tokenizer_interop.py TOKENIZER_FOLDER [PROGRAM]
TOKENIZER_FOLDER holds bert-base-uncased's tokenizer.json; its variants are made in a temporary folder. Exit code 1 when
a row differs.
"""
import copy
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import transformers

TEXTS = ["Hello, World! Caf\u00e9 na\u00efve", "covid-19 covidly COVID", "a [MASK] b[MASK] [NEW] [new] <e1> <E1>",
         "\u4e2d\u6587 \u00c9l\u00e8ve", "", "unaffable [PAD] running", "the <e1>quick</e1> brown [unused5] fox"]


def added(token_id, content, **flags):
    return {"id": token_id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True} | flags


def variants(base):
    """name -> {file name: content}."""
    def changed(**changes):
        result = copy.deepcopy(base)
        for key, value in changes.items():
            result[key] = result[key] + value if isinstance(value, list) else result[key] | value
        return result

    vocab = [token for token, _ in sorted(base["model"]["vocab"].items(), key=lambda item: item[1])]
    size = len(vocab)
    vocab_txt = "".join(token + "\n" for token in vocab)
    cased = changed(normalizer={"lowercase": False})
    bert = {"tokenizer_class": "BertTokenizer", "model_max_length": 512}
    tokens = [added(size, "<e1>", normalized=True, special=False), added(size + 1, "[NEW]"),
              added(size + 2, "covid", normalized=True, special=False)]
    decoder = {str(entry["id"]): {k: v for k, v in entry.items() if k != "id"}
               for entry in base["added_tokens"] + tokens}
    old = {"type": "BertProcessing", "sep": ["[SEP]", base["model"]["vocab"]["[SEP]"]],
           "cls": ["[CLS]", base["model"]["vocab"]["[CLS]"]]}
    return {
        "tokenizer.json alone": {"tokenizer.json": base},
        "vocab.txt": {"vocab.txt": vocab_txt, "tokenizer_config.json": bert},
        "vocab.txt, cased": {"vocab.txt": vocab_txt, "tokenizer_config.json": bert | {"do_lower_case": False}},
        "cased, no class": {"tokenizer.json": cased},
        "cased, model_type bert": {"tokenizer.json": cased, "config.json": {"model_type": "bert"}},
        "cased, BertTokenizer": {"tokenizer.json": cased, "tokenizer_config.json": bert},
        "cased, PreTrainedTokenizerFast": {"tokenizer.json": cased,
                                           "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}},
        "lower, but do_lower_case false": {"tokenizer.json": base,
                                           "tokenizer_config.json": bert | {"do_lower_case": False}},
        "lower, strip_accents false": {"tokenizer.json": base,
                                       "tokenizer_config.json": bert | {"strip_accents": False}},
        "no Chinese": {"tokenizer.json": base, "tokenizer_config.json": bert | {"tokenize_chinese_chars": False}},
        "BertProcessing": {"tokenizer.json": base | {"post_processor": old}, "tokenizer_config.json": bert},
        "added tokens": {"tokenizer.json": changed(added_tokens=tokens), "tokenizer_config.json": bert},
        "added_tokens_decoder": {"vocab.txt": vocab_txt,
                                 "tokenizer_config.json": bert | {"added_tokens_decoder": decoder}},
        "added_tokens.json": {"vocab.txt": vocab_txt, "tokenizer_config.json": bert,
                              "added_tokens.json": {"<e1>": size, "covid": size + 1}},
        "extra_special_tokens": {"tokenizer.json": base, "tokenizer_config.json": bert | {
            "extra_special_tokens": ["<e1>", "[unused5]", "</e1>"]}},
        "additional_special_tokens": {"tokenizer.json": base, "tokenizer_config.json": bert | {
            "additional_special_tokens": ["<e1>", "</e1>"]}},
    }


def sinter_ids(program, folder, save_to):
    texts = [text.encode("utf-8") for text in TEXTS]
    output = subprocess.run([program, folder, "--save_to", save_to], check=True, stdout=subprocess.PIPE,
                            input=b"".join(struct.pack("<I", len(t)) + t for t in texts)).stdout
    rows, at = [], 0
    for _ in texts:
        (length,) = struct.unpack_from("<I", output, at)
        rows.append(list(struct.unpack_from(f"<{length}i", output, at + 4)))
        at += 4 + 20 * length
    return rows


def main():
    source = pathlib.Path(sys.argv[1])
    program = sys.argv[2] if len(sys.argv) > 2 else "build/release/bin/tokenize_lines"
    base = json.loads((source / "tokenizer.json").read_text(encoding="utf-8")) | {"truncation": None, "padding": None}
    print(f"transformers {transformers.__version__}")
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, files) in enumerate(variants(base).items()):
            folder, saved = (str(pathlib.Path(scratch) / f"{number}{suffix}") for suffix in ("", "_saved"))
            pathlib.Path(folder).mkdir()
            for file, content in files.items():
                text = content if isinstance(content, str) else json.dumps(content)
                (pathlib.Path(folder) / file).write_text(text, encoding="utf-8")
            theirs = transformers.AutoTokenizer.from_pretrained(folder)
            ours = sinter_ids(program, folder, saved)
            again = transformers.AutoTokenizer.from_pretrained(saved)
            ours_again = sinter_ids(program, saved, saved + "_again")
            good = True
            for text, mine, mine_again in zip(TEXTS, ours, ours_again):
                ids = theirs(text)["input_ids"]
                if not ids == mine == mine_again == again(text)["input_ids"]:
                    good = False
                    print(f"  {text!a}\n    HF {ids}\n    sinter {mine}, from its own folder {mine_again}\n"
                          f"    HF from sinter's folder {again(text)['input_ids']}")
            if len(theirs) != len(again) or theirs.model_max_length != again.model_max_length:
                good = False
                print(f"  {len(theirs)}, {len(again)} tokens; {theirs.model_max_length}, {again.model_max_length}")
            print(f"{name}: {'equal' if good else 'DIFFERENT'}")
            failed += not good
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
