"""BERT for classification in plain PyTorch, as someone writes it who wants it fast: torch_loop.py's model.

Parameters are views of one flat buffer (fp16 on a GPU), in two ranges: those with weight decay, then biases and
LayerNorm. Query, key and value are one matrix. Attention is F.scaled_dot_product_attention, on a padded batch [B, L],
or packed, which leaves all else to the real tokens alone. What it computes is transformers'
BertForSequenceClassification (tests/bench/rivals_test.py compares both).
"""
import json
import math
import pathlib

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional as F


class MoveRows(torch.autograd.Function):
    """Rows of x at `index`. `inverse` is the way back, so that the gradient is a gather too and no atomic addition.

    Rows that only one side has (padding) point to a row of padding on the other side, whose gradient is zero.
    """

    @staticmethod
    def forward(ctx, x, index, inverse):
        ctx.save_for_backward(inverse)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, grad):
        inverse, = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


class Weights:
    """Names, shapes and places in the flat buffer, and the values of a model's folder."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.config = json.loads((folder / "config.json").read_text())
        self.config.setdefault("layer_norm_eps", 1e-12)
        stored = safetensors.torch.load_file(folder / "model.safetensors")
        self.tensors = {name.removeprefix("bert."): value.float() for name, value in self.joined(stored).items()}
        decayed = [name for name in self.tensors if not name.endswith(".bias") and "LayerNorm" not in name]
        rest = [name for name in self.tensors if name not in decayed]
        self.places, end = {}, 0
        for name in decayed + rest:
            count = self.tensors[name].numel()
            self.places[name] = (end, count)
            end += -(-count // 64) * 64   # every parameter begins at a multiple of 128 bytes
            if name == decayed[-1]:
                self.decayed = end
        self.size = end

    def joined(self, stored):
        """Query, key and value as one matrix."""
        tensors = {name: value for name, value in stored.items() if "position_ids" not in name}
        for index in range(self.config["num_hidden_layers"]):
            prefix = f"bert.encoder.layer.{index}.attention.self."
            for kind in ("weight", "bias"):
                parts = [tensors.pop(f"{prefix}{part}.{kind}") for part in ("query", "key", "value")]
                tensors[f"{prefix}qkv.{kind}"] = torch.cat(parts)
        return tensors

    def fill(self, flat):
        for name, (start, count) in self.places.items():
            flat[start:start + count].copy_(self.tensors[name].reshape(-1))

    def views(self, flat):
        return {name: flat[start:start + count].view(self.tensors[name].shape)
                for name, (start, count) in self.places.items()}


MOST_EMBEDDED = 3072


def lookup(table, ids):
    """Rows of a table. For more ids than that the gradient of F.embedding sorts and waits for the host (pytorch's issue
    82886), which a graph must not; that of index_select adds atomically."""
    return F.embedding(ids, table) if ids.numel() <= MOST_EMBEDDED else table.index_select(0, ids)


def layer_norm(x, weight, bias, eps):
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


LAYER = ["attention.self.qkv", "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense",
         "output.dense", "output.LayerNorm"]


def encoder_layer(x, parameters, settings, shape, mask, cells):
    """One layer of BERT. x is [rows, hidden]; rows are the cells of [B, L], or with `cells` the real tokens.

    A function of its parameters, weight and bias in the order of LAYER, so that torch.compile compiles it once for all
    layers. settings = (heads, hidden dropout, attention dropout, eps); cells = (token_of_cell, cell_of_token) or None.
    """
    heads, hidden_dropout, attention_dropout, eps = settings
    qkv_w, qkv_b, out_w, out_b, norm1_w, norm1_b, up_w, up_b, down_w, down_b, norm2_w, norm2_b = parameters
    sequences, length = shape
    qkv = F.linear(x, qkv_w, qkv_b)
    if cells is not None:
        qkv = MoveRows.apply(qkv, cells[0], cells[1])
    q, k, v = qkv.view(sequences, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    if mask is not None:
        mask = mask.expand(sequences, heads, length, length)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=attention_dropout)
    out = out.transpose(1, 2).reshape(sequences * length, -1)
    if cells is not None:
        out = MoveRows.apply(out, cells[1], cells[0])
    x = layer_norm(x + F.dropout(F.linear(out, out_w, out_b), hidden_dropout), norm1_w, norm1_b, eps)
    up = F.gelu(F.linear(x, up_w, up_b))
    return layer_norm(x + F.dropout(F.linear(up, down_w, down_b), hidden_dropout), norm2_w, norm2_b, eps)


class Bert:
    """A forward pass over the flat buffer's parameters. `p` maps names to leaves that require a gradient."""

    def __init__(self, weights, flat, dropout=None, compiled=False):
        self.config = weights.config
        self.p = {name: view.detach().requires_grad_() for name, view in weights.views(flat).items()}
        self.parameters = list(self.p.values())
        self.hidden_dropout = self.config["hidden_dropout_prob"] if dropout is None else dropout
        attention_dropout = self.config["attention_probs_dropout_prob"] if dropout is None else dropout
        self.eps = self.config["layer_norm_eps"]
        self.settings = (self.config["num_attention_heads"], self.hidden_dropout, attention_dropout, self.eps)
        self.layer = encoder_layer
        if compiled:
            torch._dynamo.config.recompile_limit = 128
            self.layer = torch.compile(encoder_layer, dynamic=False)
        self.layers = [[self.p[f"encoder.layer.{index}.{name}.{kind}"] for name in LAYER for kind in ("weight", "bias")]
                       for index in range(self.config["num_hidden_layers"])]

    def linear(self, name, x):
        return F.linear(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"])

    def embeddings(self, batch):
        x = lookup(self.p["embeddings.word_embeddings.weight"], batch.ids)
        positions = self.p["embeddings.position_embeddings.weight"]
        if batch.packed:
            x = x + lookup(positions, batch.positions)
        else:   # every sentence has them all: the gradient is a sum
            x = (x.view(*batch.shape, -1) + positions[:batch.shape[1]]).flatten(0, 1)
        x = x + self.p["embeddings.token_type_embeddings.weight"][0]
        name = "embeddings.LayerNorm"
        return F.dropout(layer_norm(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"], self.eps), self.hidden_dropout)

    def logits(self, batch):
        x = self.embeddings(batch)
        mask = batch.mask()
        cells = (batch.token_of_cell, batch.cell_of_token) if batch.packed else None
        for parameters in self.layers:
            x = self.layer(x, parameters, self.settings, batch.shape, mask, cells)
        pooled = torch.tanh(self.linear("pooler.dense", x.index_select(0, batch.first_token)))
        return self.linear("classifier", F.dropout(pooled, self.hidden_dropout))

    def loss(self, batch):
        """Mean over the rows with a label (those that fill a last batch have -100), in fp32."""
        return F.cross_entropy(self.logits(batch).float(), batch.labels)


class Layout:
    """Where the parts of a batch lie in one int64 buffer, so that a step is one copy.

    key = (rows, tokens, length, full): `tokens` is 0 for a padded batch; else the layers run on so many rows. `full`
    says that every sentence has `length` tokens, and nothing is masked.
    """

    def __init__(self, key):
        self.rows, tokens, self.length, self.full = key
        self.packed, self.cells = tokens > 0, self.rows * self.length
        self.tokens = tokens or self.cells
        sizes = {"ids": self.tokens, "first_token": self.rows, "labels": self.rows, "kept": self.cells}
        if self.packed:
            sizes |= {"positions": self.tokens, "token_of_cell": self.cells, "cell_of_token": self.tokens}
        self.places, self.size = {}, 0
        for name, size in sizes.items():
            self.places[name] = slice(self.size, self.size + size)
            self.size += size

    def write(self, host, ids, lengths, labels):
        """Writes a batch into `host`, an array of self.size zeros: `ids` of all sentences behind each other."""
        part = {name: host[place] for name, place in self.places.items()}
        filler = self.rows - len(lengths)   # a sentence of one token, so that its softmax has a key; no label
        part["labels"][:] = np.concatenate([labels, np.full(filler, -100)])
        lengths = np.concatenate([lengths, np.ones(filler, np.int64)])
        ids = np.concatenate([ids, np.zeros(filler, np.int64)])
        first = np.cumsum(lengths) - lengths
        position = np.arange(len(ids)) - np.repeat(first, lengths)
        cell = np.repeat(np.arange(self.rows) * self.length, lengths) + position
        part["kept"][cell] = 1
        token = np.arange(len(ids)) if self.packed else cell
        part["ids"][token] = ids
        part["first_token"][:] = first if self.packed else np.arange(self.rows) * self.length
        if self.packed:   # what has no partner points to a row of padding: the last token, an empty cell
            assert len(ids) < self.tokens and len(ids) < self.cells
            part["positions"][token] = position
            part["token_of_cell"][:] = self.tokens - 1
            part["token_of_cell"][cell] = token
            part["cell_of_token"][:] = np.argmin(part["kept"])
            part["cell_of_token"][token] = cell


class Batch:
    """The static tensors of one bucket on the device."""

    def __init__(self, key, device, dtype):
        layout = Layout(key)
        self.shape, self.packed, self.full, self.dtype = (layout.rows, layout.length), layout.packed, layout.full, dtype
        self.buffer = torch.zeros(layout.size, dtype=torch.int64, device=device)
        for name, place in layout.places.items():
            setattr(self, name, self.buffer[place])

    def mask(self):
        """[B, 1, 1, L], to be added to the scores; None where nothing is masked. Part of the step."""
        if self.full:
            return None
        kept = self.kept.view(self.shape[0], 1, 1, self.shape[1])
        return (1 - kept).to(self.dtype) * torch.finfo(self.dtype).min


def bucket(lengths, rows, pad, token_multiple=0):
    """The key of a batch: rounded up to a multiple of `pad` tokens a sentence. Packed where token_multiple is given, to
    which the tokens of all are then rounded up."""
    longest, real = int(max(lengths)), int(sum(lengths)) + rows - len(lengths)
    length = math.ceil(longest / pad) * pad
    if real == rows * length:
        return rows, 0, length, True
    tokens = math.ceil((real + 1) / token_multiple) * token_multiple if token_multiple else 0
    return rows, tokens, length, False
