#!/usr/bin/env python3
"""Makes what a comparison trains on, without a data set and without a network: a model and sentences.

    python3 bench/compare/make_job.py OUT --shape bert-base|minilm|tiny [--length N] [--rows N]

OUT/model is a BERT of that shape with seeded random weights (config.json, vocab.txt, tokenizer_config.json,
model.safetensors, 2 labels), OUT/data has train.tsv and dev.tsv in the form of SST-2. A sentence is a row of words, of
which each is one token. Without --length the sentences are as long as SST-2's and the words as frequent as its tokens
(sst2_shape.json: counts, no text), all 67,349 rows or the first N of them; with it each has N tokens, [CLS] and [SEP]
among them. What the time of a step depends on is so the same as with SST-2 and BERT: lengths, and how many different
words a batch holds. What is learned is nothing: words and labels are drawn. Needs no package.
"""
import argparse
import array
import json
import pathlib
import random
import struct

HERE = pathlib.Path(__file__).resolve().parent
VOCABULARY = 30522
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SHAPES = {  # hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, max_position_embeddings
    "bert-base": (768, 12, 12, 3072, 512),
    "minilm": (384, 6, 12, 1536, 512),
    "tiny": (64, 2, 2, 128, 128),
}
DEV_ROWS = 64


def sentence_lengths(rows, length, shape, draw):
    """Tokens of each sentence, [CLS] and [SEP] among them."""
    if length:
        return [length] * rows
    lengths = [int(tokens) for tokens, count in shape["lengths"].items() for _ in range(count)]
    draw.shuffle(lengths)
    return lengths[:rows]


def drawn_words(count, shape, draw):
    """`count` numbers of words, as often as SST-2's tokens: the same ones in every call with the same seed."""
    numbers = list(range(len(SPECIAL), VOCABULARY))
    draw.shuffle(numbers)
    often = [int(times) for times, tokens in shape["occurrences"].items() for _ in range(tokens)]
    return draw.choices(numbers[:len(often)], weights=often, k=count)


def write_sentences(path, lengths, words, draw):
    words = iter(words)
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write("sentence\tlabel\n")
        for length in lengths:
            sentence = " ".join(f"w{next(words)}" for _ in range(length - 2))
            file.write(f"{sentence}\t{draw.randrange(2)}\n")


def write_data(folder, rows=0, length=None, seed=0):
    """Writes train.tsv and dev.tsv; rows 0 are as many as SST-2 has, or 1,024 of a fixed length."""
    folder.mkdir(parents=True, exist_ok=True)
    shape, draw = json.loads((HERE / "sst2_shape.json").read_text()), random.Random(seed)
    total = sum(shape["lengths"].values())
    lengths = sentence_lengths(rows or (1024 if length else total), length, shape, draw)
    words = drawn_words(sum(lengths) - 2 * len(lengths), shape, draw)
    write_sentences(folder / "train.tsv", lengths, words, draw)
    write_sentences(folder / "dev.tsv", lengths[:DEV_ROWS], words, draw)


def tensor_shapes(hidden, layers, intermediate, positions):
    """Names and shapes as transformers stores a BertForSequenceClassification."""
    def linear(name, rows, columns):
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    def layer_norm(name):
        return {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}

    shapes = {f"bert.embeddings.{name}_embeddings.weight": (rows, hidden) for name, rows in
              {"word": VOCABULARY, "position": positions, "token_type": 2}.items()}
    shapes |= layer_norm("bert.embeddings.LayerNorm")
    for index in range(layers):
        layer = f"bert.encoder.layer.{index}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear(f"{layer}.attention.{part}", hidden, hidden)
        shapes |= layer_norm(f"{layer}.attention.output.LayerNorm")
        shapes |= linear(f"{layer}.intermediate.dense", intermediate, hidden)
        shapes |= linear(f"{layer}.output.dense", hidden, intermediate)
        shapes |= layer_norm(f"{layer}.output.LayerNorm")
    return shapes | linear("bert.pooler.dense", hidden, hidden) | linear("classifier", 2, hidden)


def values(name, count, normal):
    """f32 as bytes: LayerNorm starts at 1 and 0, biases at 0, the rest is drawn with a deviation of 0.02."""
    if name.endswith("LayerNorm.weight"):
        return array.array("f", [1.0]) * count
    if name.endswith(".bias"):
        return array.array("f", bytes(4 * count))
    # A million and three draws, over and over from a place of the tensor's own: rows differ, and no package is needed.
    start = sum(name.encode()) * 7919 % len(normal)
    turned = normal[start:] + normal[:start]
    return (turned * (count // len(turned) + 1))[:count]


def write_model(folder, shape, seed=0):
    hidden, layers, heads, intermediate, positions = SHAPES[shape]
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": VOCABULARY,
              "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
              "intermediate_size": intermediate, "max_position_embeddings": positions, "type_vocab_size": 2,
              "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
              "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    vocabulary = SPECIAL + [f"w{number}" for number in range(len(SPECIAL), VOCABULARY)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": positions}) + "\n")
    draw = random.Random(seed)
    normal = array.array("f", [draw.gauss(0, 0.02) for _ in range(1_000_003)])
    header, end = {"__metadata__": {"format": "pt"}}, 0
    shapes = tensor_shapes(hidden, layers, intermediate, positions)
    counts = {name: dims[0] * (dims[1] if len(dims) == 2 else 1) for name, dims in shapes.items()}
    for name, dims in shapes.items():
        header[name] = {"dtype": "F32", "shape": list(dims), "data_offsets": [end, end + 4 * counts[name]]}
        end += 4 * counts[name]
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for name, count in counts.items():
            values(name, count, normal).tofile(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--length", type=int)
    parser.add_argument("--rows", type=int, default=0)
    options = parser.parse_args()
    positions = SHAPES[options.shape][4]
    if options.length is not None and not 3 <= options.length <= positions:
        parser.error(f"--length {options.length}: it is 3 to {positions}, the model's positions")
    write_model(options.out / "model", options.shape)
    write_data(options.out / "data", options.rows, options.length)


if __name__ == "__main__":
    main()
