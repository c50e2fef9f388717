"""An extension of griffe: doctests that stand in a docstring without a heading become its section
"Examples".

Markdown would take `>>>` for quotations within quotations.
"""

import re

import griffe

BARE = re.compile(r"(?<=\n)\n?(?P<examples>>>> .*)\Z", re.S)


class Doctests(griffe.Extension):
    def on_instance(self, *, obj, **_):
        found = obj.docstring
        if (
            found is None
            or ">>> " not in found.value
            or re.search(r"^Examples?\n-+$", found.value, re.M)
        ):
            return
        text = BARE.sub(lambda match: f"\nExamples\n--------\n{match['examples']}", found.value)
        obj.docstring = griffe.Docstring(
            text, lineno=found.lineno, endlineno=found.endlineno, parent=obj, parser=found.parser
        )
