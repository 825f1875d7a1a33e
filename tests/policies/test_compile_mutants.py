"""Would the differential tests notice a wrong compiler? Each small fault in its source must show.

A mutant is `policies/compile.py` with one fault: a comparison moved or turned, `and` and `or`
swapped, a `not` or a statement dropped, a number moved by one, a word of the generated text changed
to another that still compiles. It is loaded as a module of its own and its functions are held
against the plain interpreter and the declared checks on the same inputs. The worst-first order of
`plan.py` is mutated likewise.
"""

from __future__ import annotations
