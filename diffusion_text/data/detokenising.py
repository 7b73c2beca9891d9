"""Words and marks set apart by blanks, as benchmarks come, as people write them: what SEDD (Lou et al. 2024) and MDLM
(Sahoo et al. 2024) read instead, rule by rule in their order, so that perplexities are of the same characters.

Sources: `data.py` of louaaron/Score-Entropy-Discrete-Diffusion and `dataloader.py` of kuleshov-group/mdlm on GitHub; a
rule of theirs that never applies is left out.
"""

import re
from collections.abc import Sequence

Rules = Sequence[tuple[re.Pattern[str], str]]


def rules(*pairs: tuple[str, str]) -> Rules:
    """Patterns and what takes their place."""
    return [(re.compile(pattern), instead) for pattern, instead in pairs]


def joined(marks: str) -> list[tuple[str, str]]:
    """Marks that stand beside the word before them."""
    return [(re.escape(f" {mark} "), f"{mark} ") for mark in marks]


LM1B = rules(
    ("http : / / ", "http://"),
    ("https : / / ", "https://"),
    (r" '(\w+)", r"'\1"),
    (r" (\w+) \. ", r" \1. "),
    (r" (\w+) \.$", r" \1."),
    (r" \? ", "? "),
    (r" \?$", "?"),
    (" ! ", "! "),
    (" !$", "!"),
    *joined(",:;"),
    (" / ", "/"),
    (r'" ([^"]+) "', r'"\1"'),
    (r"' ([^']+) '", r"'\1'"),
    (r"\( ([^()]+) \)", r"(\1)"),
    (r"\[ ([^\[\]]+) \]", r"[\1]"),
    (r"\$ ", "$"),
    ("£ ", "£"),
)
WIKITEXT = rules(
    ("s '", "s'"),
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (r" @\.@ ", "."),
    *joined(":;.!?,"),
    (r"\(\s*([^)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r'"\s*([^"]*?)\s*"', r'"\1"'),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)


def detokenised(text: str, rules: Rules) -> str:
    """A text after all rules."""
    for pattern, instead in rules:
        text = pattern.sub(instead, text)
    return text
