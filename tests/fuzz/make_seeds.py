#!/usr/bin/env python3
"""Writes a small seed corpus and a dictionary for each fuzz target.

make_seeds.py FOLDER writes FOLDER/<target>/seed-NN and FOLDER/<target>.dict.
"""
import io
import json
import pathlib
import struct
import sys
import zipfile

CONFIG = {
    "architectures": ["BertModel"], "model_type": "bert", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 24, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "classifier_dropout": None, "max_position_embeddings": 12,
    "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    "id2label": {"0": "negative", "1": "positive"}, "label2id": {"negative": 0, "positive": 1},
    "problem_type": "single_label_classification", "position_embedding_type": "absolute", "is_decoder": False,
}
WORDS = "a deep , moving film . it is n't funny , unaffecting , or clever"
ODD = "caf\u00e9 na\u0131ve \u03a3\u03c2 \u4e2d\u6587 \U0001f600 e\u0301\u0327 \u00a0x [MASK] <x> [CLS]"


def as_json(value):
    return json.dumps(value, separators=(",", ":")).encode()


def safetensors(header, data):
    text = header if isinstance(header, bytes) else as_json(header)
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def json_seeds():
    return [as_json(CONFIG), rb'[1,-2,0.5,1e-12,null,true,"\u00e9\ud83d\ude00\n"]', b"{}", b"[[[[]]]]",
            b'{"a":{"b":[{"c":1e308}]}}', b" 9223372036854775807 "]


def config_seeds():
    changes = [{}, {"id2label": None, "num_labels": 3}, {"hidden_size": 15}, {"id2label": None}]
    return [b"{}"] + [as_json({**CONFIG, **change}) for change in changes]


def safetensors_seeds():
    several = {"b": tensor("BOOL", [2], 8, 10), "a": tensor("I64", [], 0, 8), "z": tensor("F16", [0, 3], 10, 10)}
    return [safetensors({}, b""),
            safetensors({"__metadata__": {"format": "pt"}, "w": tensor("F32", [2, 3], 0, 24)}, bytes(24)),
            safetensors(several, bytes(10)),
            safetensors({"a": tensor("U8", [4], 0, 4), "b": tensor("BF16", [1, 1], 4, 6)}, bytes(6)),
            safetensors({"a": tensor("F64", [2**62], 0, 8)}, bytes(8)),
            safetensors(b"{} ", b"x")]


def tsv_seeds():  # the first byte chooses options
    return [b"\x00sentence\tlabel\n" + WORDS.encode() + b" \t1\n\t0\n",
            b"\x00\xef\xbb\xbflabel\tx\tsentence\r\n0\t\t\"a\r\n",
            b"\x01sentence\n" + ODD.encode() + b"\n\n",
            b"\x00sentence\tlabel\n\xff\x00\t-1\n",
            b'\x02sentence,label\n"a ""quoted"", text\nof two lines",1\nplain,0\n']


def sst2_seeds():  # the first byte chooses the split or the format
    train = b"sentence\tlabel\n" + WORDS.encode() + b" \t1\n\t0\nx\t7\n"
    test = b"index\tsentence\n0\t" + ODD.encode() + b"\n7\tx\n"
    return [b"\x00" + train, b"\x00" + train[:-4], b"\x01" + train[:-4] + b"\xff\t1\n", b"\x02" + test, b"\x02" + train,
            b"\x04a\tb\n1\t2.5\n-3\tx\n", b'\x06a,b\n1,"x, ""y""\nz"\n']


def zip_seeds():
    def archive(method, files):
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", method) as target:
            for name, content in files:
                target.writestr(zipfile.ZipInfo(name), content, method)
        return memory.getvalue()
    files = [("SST-2/", b""), ("SST-2/dev.tsv", b"sentence\tlabel\n" + WORDS.encode() * 9 + b"\t1\n"), ("x", b"")]
    twice = archive(zipfile.ZIP_STORED, [("a\nb", b"1"), ("a\nc", b"2")]).replace(b"a\nc", b"a\nb")
    return [archive(zipfile.ZIP_DEFLATED, files), archive(zipfile.ZIP_STORED, files), archive(zipfile.ZIP_STORED, []),
            twice]


def tokenizer_json_seeds():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##s", "film", "."]
    added = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i in range(5)]
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
             "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                            "strip_accents": None, "lowercase": True},
             "pre_tokenizer": {"type": "BertPreTokenizer"},
             "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
             "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
             "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                       "max_input_chars_per_word": 100, "vocab": {token: i for i, token in enumerate(tokens)}}}
    special = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
               {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    pair = special + [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    template = {"type": "TemplateProcessing", "single": special, "pair": pair,
                "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (("[CLS]", 2), ("[SEP]", 3))}}
    return [as_json(whole), as_json({**whole, "post_processor": template}), as_json({**whole, "added_tokens": []}),
            as_json({**whole, "normalizer": None})]


def utf8_seeds():
    return [ODD.encode(), b"\xe4\xb8", b"\xf0\x9f\x98\x80\xed\xa0\x80\xc0\x80\xf4\x90\x80\x80\xff", WORDS.encode()]


def vocabulary_seeds():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##s", "film", ".", "\u00e9", "##\u4e2d"]
    lists = [tokens, tokens[:4] + ["the", "the"], tokens[1:]]
    return [end.join(tokens).encode() + end.encode() for tokens in lists for end in ("\n", "\r\n")]


def tokenizer_seeds():  # the first two bytes choose options
    texts = [WORDS, ODD, "the films\tunfilming", "a" * 101 + "\tb", ""]
    return [bytes([flags, 9]) + text.encode() for flags in (0, 3, 8, 19, 84) for text in texts]


def quoted(words):
    return [f'"{word}"'.encode() for word in words]


TARGETS = {  # target: (seeds, words of the dictionary)
    "json": (json_seeds(), [b"{}", b"[]", b"null", b"true", b"false", b"\\u0000", b"\\ud800", b"1e999", b"-0.0",
                            b"9223372036854775808"]),
    "config": (config_seeds(),
               quoted([*CONFIG, "num_labels", "pruned_heads", "add_cross_attention"]) + [b"null", b"-1"]),
    "safetensors": (safetensors_seeds(), quoted(["dtype", "shape", "data_offsets", "__metadata__", "F64", "F32", "F16",
                                                 "BF16", "I64", "I32", "U8", "BOOL"]) + [b"9223372036854775807"]),
    "tsv": (tsv_seeds(), [b"sentence", b"label", b"\t", b"\r\n", b",", b'""', b"\xef\xbb\xbf"]),
    "sst2": (sst2_seeds(), [b"sentence", b"label", b"index", b"\t1\n", b"\t-1\n", b"\r\n", b"\xef\xbb\xbf"]),
    "zip": (zip_seeds(), [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"x", b"SST-2/dev.tsv"]),
    "tokenizer_json": (tokenizer_json_seeds(),
                       quoted(["model", "vocab", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                               "decoder", "type", "id", "content", "special", "normalized", "WordPiece", "Sequence",
                               "BertNormalizer", "[UNK]", "##"]) + [b"null", b"-1", b"true", b"false"]),
    "utf8": (utf8_seeds(), [b"\xc2\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xed\xa0\x80", b"\xe0\x80"]),
    "vocabulary": (vocabulary_seeds(), [b"[PAD]\n", b"[UNK]\n", b"[CLS]\n", b"[SEP]\n", b"[MASK]\n", b"\n##"]),
    "tokenizer": (tokenizer_seeds(), [b"[MASK]", b"[SEP]", b"<x>", b"\t", b"\xe4\xb8\xad", b"\xcc\x81",
                                      b"\xef\xbf\xbd", b"\xe2\x80\x8b"]),
}

folder = pathlib.Path(sys.argv[1])
for target, (seeds, words) in TARGETS.items():
    (folder / target).mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds):
        (folder / target / f"seed-{number:02}").write_bytes(content)
    # The dictionary's format knows no escapes but \xAB.
    lines = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words]
    (folder / f"{target}.dict").write_text("".join(lines))
