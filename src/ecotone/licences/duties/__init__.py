"""What a work owes by the licences that bind it, as files, and whether a bundle or a page keeps it. Pure.

The rooms, in the order of the work:
    owing         duties with the works that they come from
    bundle        the files of a work, bounded
    texts         licence texts and notices in files, recognised by their words
    requirements  what must be found where, for writing and for checking
    cards         sections, notices and fields in a user's own files
    compiling     the files to write
    verifying     the check of a bundle or a page
    page          the text that a page shows
    document      `duties.json`
    writing       files into a folder
"""

from ecotone.licences.duties.bundle import LARGEST_TEXT, Bundle, Folder, Loose, text_of
from ecotone.licences.duties.document import COMPLETE, DOCUMENT, INCOMPLETE, UNKNOWN, Duties
from ecotone.licences.duties.owing import Owed, Owing, owing
from ecotone.licences.duties.page import shown_text
from ecotone.licences.duties.requirements import Material
from ecotone.licences.duties.texts import is_artefact, notice_texts
from ecotone.licences.duties.writing import write

__all__ = [
    "COMPLETE",
    "DOCUMENT",
    "INCOMPLETE",
    "LARGEST_TEXT",
    "UNKNOWN",
    "Bundle",
    "Duties",
    "Folder",
    "Loose",
    "Material",
    "Owed",
    "Owing",
    "is_artefact",
    "notice_texts",
    "owing",
    "shown_text",
    "text_of",
    "write",
]
