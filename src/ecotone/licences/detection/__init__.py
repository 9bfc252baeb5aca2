"""Which licence is this text? Known texts, notices and tags, with what differs in the texts that are merely near. Pure.

The rooms, in the order of the work:
    reading         which files, and their text
    normalising     text to comparable words
    index           known texts as hashes of word triples (`index.bin`), no sentence of them
    matching        which known texts stand in a text, and where
    differences     what the text lacks, adds or changes that may decide
    discriminators  near texts that the law tells apart (`discriminators.yaml`)
    notices         SPDX tags, and notices that grant a licence by its name (`notices.yaml`)
    detecting       the answer for a text
    files           the answer for files and folders
    conclude        declared, detected, concluded
    second_opinion  ScanCode's engine in a child process
"""

from ecotone.licences.detection.conclude import Conclusion, conclude
from ecotone.licences.detection.detecting import Detection, Near, detect
from ecotone.licences.detection.files import Found, declared_in, detect_files, of_the_work, speaks
from ecotone.licences.detection.second_opinion import Opinion, SecondOpinionFailed, second_opinion

__all__ = [
    "Conclusion",
    "Detection",
    "Found",
    "Near",
    "Opinion",
    "SecondOpinionFailed",
    "conclude",
    "declared_in",
    "detect",
    "detect_files",
    "of_the_work",
    "second_opinion",
    "speaks",
]
