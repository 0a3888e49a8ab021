#!/usr/bin/env python3
"""Writes unicode.inc: what each code point is to Hugging Face's fast BERT tokenizer.

The contract of data/tokenizer.h is the behaviour of that tokenizer, whose Unicode tables are of several ages (about
version 8 for categories, newer for decomposition and case). So the tables are observed, not taken from Unicode: every
scalar value is sent through each stage of the library alone. Needs `pip install tokenizers`; tried with 0.23.3.

usage: generate.py OUTPUT
"""
import sys
import unicodedata

from tokenizers import __version__, normalizers, pre_tokenizers

SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by arithmetic


def bert(clean=False, chinese=False, strip=False, lower=False):
    return normalizers.BertNormalizer(
        clean_text=clean, handle_chinese_chars=chinese, strip_accents=strip, lowercase=lower
    ).normalize_str


def ranges(values):
    """{code point: value} -> [(first, last, value)] of neighbours with the same value."""
    result = []
    for c in sorted(values):
        if result and result[-1][1] == c - 1 and result[-1][2] == values[c]:
            result[-1] = (result[-1][0], c, values[c])
        else:
            result.append((c, c, values[c]))
    return result


def classes():
    clean, chinese, split = bert(clean=True), bert(chinese=True), pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    strip, nfd = bert(strip=True), normalizers.NFD().normalize_str
    result = {"kRemoved": {}, "kSeparator": {}, "kCjk": {}, "kPunctuation": {}, "kNonspacingMark": {}}
    for c in SCALARS:
        char = chr(c)
        probe = "a" + char + "b"
        cleaned = clean(probe)
        if cleaned == "ab":
            result["kRemoved"][c] = 0
        elif char != " " and cleaned == "a b" or char == " ":
            result["kSeparator"][c] = 0
        if chinese(probe) == "a " + char + " b":
            result["kCjk"][c] = 0
        if [piece for piece, _ in split(probe)] == ["a", char, "b"]:
            result["kPunctuation"][c] = 0
        if nfd(char) == char and strip(probe) == "ab":
            result["kNonspacingMark"][c] = 0
    return result


def combining_classes(decomposed):
    """Canonical combining classes, from the order in which NFD puts a character and marks of known classes."""
    nfd = normalizers.NFD().normalize_str
    acute = "\u0301"
    known = {230: acute}
    for c in SCALARS:
        level, char = unicodedata.combining(chr(c)), chr(c)
        # Python's tables are newer: a mark that the library does not know yet is never moved, and is no measure.
        moves = nfd(acute + char) != acute + char if level < 230 else nfd(char + acute) != char + acute
        if level and c not in decomposed and moves:
            known.setdefault(level, char)
    levels = sorted(known)
    lowest, highest = known[levels[0]], known[levels[-1]]
    result = {}
    for c in SCALARS:
        char = chr(c)
        if c in decomposed or c in HANGUL:
            continue
        if nfd(highest + char) == highest + char and nfd(char + lowest) == char + lowest:
            continue
        level = max(k for k in levels if nfd(known[k] + char) == known[k] + char)
        assert nfd(char + known[level]) == char + known[level], hex(c)
        result[c] = level
    return result


def mapping(stage, skip=()):
    return {c: stage(chr(c)) for c in SCALARS if c not in skip and stage(chr(c)) != chr(c)}


def write_entries(out, entries):
    line = ""
    for entry in entries:
        if len(line) + len(entry) + 1 > 118:
            out.write(line + "\n")
            line = ""
        line += (" " if line else "  ") + entry
    out.write(line + "\n};\n")


def main():
    decompositions = mapping(normalizers.NFD().normalize_str, HANGUL)
    lower = mapping(bert(lower=True))
    with open(sys.argv[1], "w", encoding="ascii") as out:
        out.write(f"// Written by generate.py from the behaviour of tokenizers {__version__}; do not edit.\n")
        for name, members in classes().items():
            out.write(f"constexpr CodePointRange {name}[] = {{\n")
            write_entries(out, [f"{{{first:#x}, {last:#x}}}," for first, last, _ in ranges(members)])
        out.write("constexpr CombiningRange kCombiningClass[] = {\n")
        write_entries(out, [f"{{{a:#x}, {b:#x}, {k}}}," for a, b, k in ranges(combining_classes(decompositions))])
        for name, table in (("kDecomposition", decompositions), ("kLowercase", lower)):
            assert all(1 <= len(text) <= 4 for text in table.values())
            out.write(f"constexpr CodePointMapping {name}[] = {{\n")
            targets = {c: ", ".join(f"{ord(x):#x}" for x in text) for c, text in table.items()}
            write_entries(out, [f"{{{c:#x}, {{{targets[c]}}}}}," for c in sorted(targets)])


main()
