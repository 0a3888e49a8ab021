"""Where mutate_kernels.py breaks a kernel whose first bound is no good place: {(file stem, kernel): (old, new)}.

Both are expressions; the old one must stand in the kernel's body, and its first place is taken.
"""

PLACES = {
    ("copy", "copy_units"): ("i >= walk.count", "i > walk.count"),
    ("elementwise", "each_element"): ("first + k * kThreads >= count", "first + k * kThreads > count"),
    ("adamw", "adamw_step"): ("i < count", "i <= count"),
    ("update", "accumulate_loss"): ("load(loss)", "load(loss + 1)"),
    ("touched_rows", "zero_marked"): ("c < units", "c < units + 1"),
    ("adamw", "adamw_touched"): ("c < table.cols", "c < table.cols + width"),
    ("catch_up_rows", "catch_up"): ("c < cols", "c < cols + width"),
    # The loops' own bounds are no good places: a trip more finds nothing to do, or fetches a tile that nobody reads.
    ("gather", "gather_vectors"): ("k + kGathered > total", "k + kGathered > total + 1"),
    ("gemm", "multiply_fragments"): ("stages[s % kStages]", "stages[(s + 1) % kStages]"),
    ("attention_long", "attend_by_tiles"): ("tiles.tile_x(t)", "tiles.tile_x(t + 1)"),
    ("attention_long", "key_gradients_by_tiles"): ("tiles.tile_x(t)", "tiles.tile_x(t + 1)"),
}
