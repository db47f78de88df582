"""Hold the docs to the vocabulary: `python docs/wording.py` names each word to replace."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSTEAD = {
    r"go(es)? on|went on": "continue, resume",
    r"le(ave|aves|ft) out": "skip, exclude",
    r"nobody|whoever|somebody": "no one, anyone, a name of the role",
    r"is right about": "top-1 accuracy",
    r"mend(s|ed)?": "fix",
    r"throw(s|n)? away": "discard",
    r"in order to": "to",
    r"utili[sz]e(s|d)?": "use",
    r"simply|easily|obviously": "nothing",
    r"warm-?ups? phase": "warm-up",
    r"quantisation|normalisation|optimisation|initialisation": "the spelling with z",
    r"datasets?": "data set",
}
"""Words by pattern, and what to write instead."""
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md")
CODE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|<!--.*?-->", re.DOTALL)


def faults(text: str) -> list[tuple[int, str, str]]:
    """Return the line number, the word and what to write instead, for each word of `text`."""
    prose = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    found = [
        (prose.count("\n", 0, hit.start()) + 1, hit[0], instead)
        for pattern, instead in INSTEAD.items()
        for hit in re.finditer(rf"\b(?:{pattern})\b", prose, re.IGNORECASE)
    ]
    return sorted(found)


def main() -> int:
    """Print every fault; return the exit code."""
    count = 0
    for path in (page for pattern in PAGES for page in sorted(ROOT.glob(pattern))):
        for line, word, instead in faults(path.read_text(encoding="utf-8")):
            print(f"{path.relative_to(ROOT)}:{line}: {word}: use {instead}")  # noqa: T201
            count += 1
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main())
