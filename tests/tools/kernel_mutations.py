"""Where mutate_kernels.py breaks a kernel whose first bound is no good place: {(file stem, kernel): (old text, new text)}.

The old text must stand in the kernel's body; its first place is taken.
"""

PLACES = {
    ("copy", "copy_units"): ("i >= walk.count", "i > walk.count"),
    ("elementwise", "each_element"): ("kThreads >= count", "kThreads > count"),
    ("adamw", "adamw_step"): ("i < count;", "i <= count;"),
}
