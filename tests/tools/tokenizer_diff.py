#!/usr/bin/env python3
"""Compares sinter's tokenizer with Hugging Face's on SST-2 and on random Unicode: ids, token types, special-token masks
and offsets of every token, texts alone and in pairs, whole and truncated.

Needs `pip install tokenizers` (the contract is 0.23.3) and the program tokenize_lines from sinter's build.

usage: tokenizer_diff.py TOKENIZER_FOLDER [--sst2 FOLDER] [--program build/release/bin/tokenize_lines]
                         [--strings 100000] [--seed 1] [--show 10]
TOKENIZER_FOLDER holds tokenizer.json. Exit code 1 when there is a difference; the first ones are printed.
"""
import argparse
import pathlib
import random
import struct
import subprocess
import sys

import tokenizers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NEARLY_SPECIAL = ["[cls]", "[MASK", "MASK]", "[[SEP]]", "[ UNK ]", "[Pad]", "[MASK][MASK]", "[unused1]", "##ing", "##"]
# Blocks with something to get wrong: marks, case pairs, compositions, ideographs, digits, symbols, controls, spaces.
BLOCKS = {
    "ascii": [(0x20, 0x7E)],
    "control": [(0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F),
                (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFD), (0x180E, 0x180E), (0xE0001, 0xE007F), (0xE000, 0xE020)],
    "space": [(0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A),
              (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)],
    "punctuation": [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x205E),
                    (0x3001, 0x303F), (0xFF01, 0xFF0F), (0x2E00, 0x2E5D), (0x1360, 0x1368)],
    "latin": [(0xC0, 0x24F), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF), (0xFB00, 0xFB06)],
    "greek_cyrillic": [(0x370, 0x52F), (0x1F00, 0x1FFF), (0x1C80, 0x1C88), (0x2DE0, 0x2DFF)],
    "marks": [(0x300, 0x36F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20F0), (0xFE20, 0xFE2F), (0x302A, 0x302F),
              (0x3099, 0x309A), (0x591, 0x5C7), (0x610, 0x61A), (0x64B, 0x65F), (0x16FF0, 0x16FF1), (0x1D165, 0x1D1AD)],
    "cjk": [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2B740, 0x2CEAF),
            (0x2F800, 0x2FA1F)],
    "japanese_korean": [(0x3040, 0x30FF), (0x1100, 0x11FF), (0xAC00, 0xD7A3), (0x31F0, 0x31FF), (0xFF65, 0xFF9F)],
    "south_asian": [(0x900, 0xDFF), (0xE00, 0xFFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1B00, 0x1B7F)],
    "right_to_left": [(0x590, 0x6FF), (0x700, 0x74F), (0xFB1D, 0xFDFF), (0x10800, 0x10FFF)],
    "emoji": [(0x1F300, 0x1FAFF), (0x2600, 0x27BF), (0x1F1E6, 0x1F1FF), (0xFE0F, 0xFE0F), (0x200D, 0x200D)],
    "other_planes": [(0x10000, 0x11FFF), (0x16000, 0x18FFF), (0x1D000, 0x1F2FF)],
    "anything": [(0x0, 0xD7FF), (0xE000, 0x10FFFF)],
}
NAMES = list(BLOCKS)


def character(draw, name):
    first, last = BLOCKS[name][draw.randrange(len(BLOCKS[name]))]
    return chr(draw.randint(first, last))


def piece(draw, words):
    """A word, a special token, or some characters of one block, perhaps with marks between them."""
    kind = draw.randrange(12)
    if kind < 4:
        word = words[draw.randrange(len(words))]
        return [word, word.upper(), word.capitalize(), word + words[draw.randrange(len(words))]][draw.randrange(4)]
    if kind == 4:
        return (SPECIAL + NEARLY_SPECIAL)[draw.randrange(len(SPECIAL) + len(NEARLY_SPECIAL))]
    if kind == 5 and draw.randrange(20) == 0:  # around and far beyond the 100 characters that a word may have
        return character(draw, NAMES[draw.randrange(len(NAMES))]) * draw.choice([99, 100, 101, 1000])
    name = NAMES[draw.randrange(len(NAMES))]
    text = ""
    for _ in range(draw.randrange(1, 9)):
        text += character(draw, name)
        if draw.randrange(6) == 0:
            text += "".join(character(draw, "marks") for _ in range(draw.randrange(1, 4)))
    return text


def random_strings(count, seed, words):
    draw = random.Random(seed)
    glue = ["", "", " ", " ", " ", "  ", "\t", "\n", "\u00a0", "-", "'", "\u200b", "\u3000"]
    return ["".join(piece(draw, words) + glue[draw.randrange(len(glue))] for _ in range(draw.randrange(13)))
            for _ in range(count)]


def sst2_sentences(folder):
    sentences = []
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        path = pathlib.Path(folder) / name
        if not path.exists():
            print(f"{path} is not there")
            continue
        lines = path.read_text(encoding="utf-8").split("\n")
        column = lines[0].split("\t").index("sentence")
        found = [line.split("\t")[column] for line in lines[1:] if line]
        print(f"{path}: {len(found)} sentences")
        sentences += found
    return sentences


def sinter_rows(program, folder, rows, pairs, max_length):
    texts = [text for row in rows for text in row] if pairs else rows
    encoded = [text.encode("utf-8") for text in texts]
    command = [program, folder] + (["--pairs"] if pairs else [])
    command += [] if max_length is None else ["--max_length", str(max_length)]
    output = subprocess.run(command, input=b"".join(struct.pack("<I", len(t)) + t for t in encoded),
                            stdout=subprocess.PIPE, check=True).stdout
    at = 0
    for _ in rows:
        (length,) = struct.unpack_from("<I", output, at)
        values = struct.unpack_from(f"<{5 * length}i", output, at + 4)
        at += 4 + 20 * length
        offsets = values[3 * length:]
        yield (list(values[:length]), list(values[length:2 * length]), list(values[2 * length:3 * length]),
               list(zip(offsets[::2], offsets[1::2])))


def first_difference(mine, wanted):
    """Index of the first token that differs, and what both sides have there."""
    for i, (a, b) in enumerate(zip(mine, wanted)):
        if a != b:
            return f"token {i}: sinter {a}, HF {b}"
    return f"sinter has {len(mine)} tokens, HF {len(wanted)}"


def compare(name, args, tokenizer, rows, pairs=False, max_length=None):
    """The number of rows that differ."""
    if max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_length)
    differences = tokens = 0
    columns = ("ids", "token types", "special-token mask", "offsets")
    ours = sinter_rows(args.program, args.tokenizer_folder, rows, pairs, max_length)
    for start in range(0, len(rows), 1000):
        for row, theirs in zip(rows[start:start + 1000], tokenizer.encode_batch(rows[start:start + 1000])):
            mine = next(ours)
            wanted = (theirs.ids, theirs.type_ids, theirs.special_tokens_mask, theirs.offsets)
            tokens += len(theirs.ids)
            if mine == wanted:
                continue
            differences += 1
            if differences <= args.show:
                print(f"  {row!a:.1000}")
                for column, a, b in zip(columns, mine, wanted):
                    if a != b:
                        print(f"    {column}, {first_difference(a, b)}")
    print(f"{name}: {len(rows)} rows, {tokens} tokens, {differences} differences")
    return differences


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizer_folder")
    parser.add_argument("--sst2")
    parser.add_argument("--program", default="build/release/bin/tokenize_lines")
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=10)
    args = parser.parse_args()
    print(f"tokenizers {tokenizers.__version__}, Python {sys.version.split()[0]}, seed {args.seed}")
    tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(args.tokenizer_folder) / "tokenizer.json"))
    tokenizer.no_padding()
    words = [token.removeprefix("##") for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    strings = random_strings(args.strings, args.seed, words)
    differences = 0
    if args.sst2:
        sentences = sst2_sentences(args.sst2)
        differences += compare("SST-2", args, tokenizer, sentences)
        differences += compare("SST-2, truncated to 16", args, tokenizer, sentences, max_length=16)
    differences += compare("random strings", args, tokenizer, strings)
    pairs = list(zip(strings[::2], strings[1::2]))
    differences += compare("random pairs", args, tokenizer, pairs, pairs=True)
    for max_length in (7, 24):
        differences += compare(f"random pairs, truncated to {max_length}", args, tokenizer, pairs, True, max_length)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
